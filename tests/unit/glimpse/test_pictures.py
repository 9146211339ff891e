"""`glimpse.pictures`: encoded pictures, in and out."""

import io
import random
import zlib
from typing import Any

import pytest
from PIL import Image

from glimpse import pictures
from glimpse.errors import InvalidRequest
from glimpse.pictures import check_input, encode_final, encode_preview, open_input
from glimpse.request import PreviewSpec

RED, BLUE = (255, 0, 0), (0, 0, 255)


def striped(width: int = 60, height: int = 40) -> Image.Image:
    """Red to the left, blue to the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def saved(image: Image.Image, picture_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, picture_format, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("picture_format", ["jpeg", "png", "webp"])
def test_a_final_picture_is_what_it_says_it_is(picture_format: str) -> None:
    picture = encode_final(striped(), picture_format)
    assert picture.content_type == f"image/{picture_format}"
    assert (picture.width, picture.height) == (60, 40)
    image = opened(picture.data)
    assert (image.format or "").lower() == picture_format
    assert image.size == (60, 40)
    assert image.getpixel((5, 5)) == pytest.approx(RED, abs=6)


def test_png_loses_nothing() -> None:
    image = striped()
    assert opened(encode_final(image, "png").data).tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("size", "expected"), [(30, (30, 20)), (59, (59, 39)), (60, (60, 40)), (512, (60, 40))]
)
def test_a_preview_is_no_longer_than_wanted_and_never_enlarged(
    size: int, expected: tuple[int, int]
) -> None:
    picture = encode_preview(striped(), PreviewSpec(1, "jpeg", 70, size))
    assert opened(picture.data).size == (picture.width, picture.height) == expected


def test_quality_and_format_of_a_preview_are_as_wanted() -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    low, high = (encode_preview(noise, PreviewSpec(1, "jpeg", q, 512)) for q in (10, 90))
    assert len(low.data) < len(high.data) / 2
    webp = encode_preview(noise, PreviewSpec(1, "webp", 70, 512))
    assert (webp.content_type, opened(webp.data).format) == ("image/webp", "WEBP")


@pytest.mark.parametrize("picture_format", ["jpeg", "png", "webp"])
def test_an_input_picture_of_the_right_size_is_left_as_it_is(picture_format: str) -> None:
    data = saved(striped(), picture_format)
    check_input(data)
    assert open_input(data, 60, 40).tobytes() == opened(data).convert("RGB").tobytes()


@pytest.mark.parametrize(("size", "ends"), [((40, 40), (RED, BLUE)), ((120, 20), (RED, BLUE))])
def test_an_input_picture_is_cropped_at_its_centre_to_cover_the_size(
    size: tuple[int, int], ends: Any
) -> None:
    image = open_input(saved(striped(), "png"), *size)
    assert image.size == size
    middle = size[1] // 2
    assert image.getpixel((2, middle)) == pytest.approx(ends[0], abs=4)
    assert image.getpixel((size[0] - 3, middle)) == pytest.approx(ends[1], abs=4)


def test_an_input_picture_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image = open_input(saved(striped(), "jpeg", exif=exif), 60, 40)
    assert image.getpixel((2, 20)) == pytest.approx(BLUE, abs=6)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16", "CMYK"])
def test_an_input_picture_of_any_mode_is_made_rgb(mode: str) -> None:
    image = Image.new(mode, (8, 8))
    data = saved(image, "jpeg" if mode == "CMYK" else "png")
    assert open_input(data, 8, 8).mode == "RGB"


@pytest.mark.parametrize("field", ["image_url", "mask_url"])
@pytest.mark.parametrize("look", [check_input, lambda data, field: open_input(data, 64, 64, field)])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"RIFF\0\0\0\0WEBP",
        saved(striped(), "gif"),
        saved(striped(), "bmp"),
        saved(striped(), "tiff"),
    ],
)
def test_what_is_no_picture_or_of_another_format_is_refused(
    look: Any, data: bytes, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        look(data, field)
    assert caught.value.problems[0]["loc"] == ["body", field]
    assert "send JPEG, PNG or WebP" in caught.value.message


def test_a_head_that_is_too_short_is_refused() -> None:
    data = b"\x89PNG\r\n\x1a\n" + (0).to_bytes(4) + b"IHDR" + zlib.crc32(b"IHDR").to_bytes(4)
    with pytest.raises(InvalidRequest):  # Pillow raises a bare ValueError
        check_input(data)


def test_a_picture_cut_short_is_refused_when_it_is_decoded() -> None:
    for picture_format in ("jpeg", "png", "webp"):
        data = saved(Image.effect_noise((64, 64), 80).convert("RGB"), picture_format)
        with pytest.raises(InvalidRequest):
            open_input(data[: len(data) // 2], 64, 64)


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved(striped(), "png")
    monkeypatch.setattr(pictures, "MAX_INPUT_PIXELS", 60 * 40 - 1)
    with pytest.raises(InvalidRequest, match="has more than 2399 pixels"):
        check_input(data)
    with pytest.raises(InvalidRequest, match="mask_url.*has more than 2399 pixels"):
        check_input(data, "mask_url")
    monkeypatch.setattr(pictures, "MAX_INPUT_PIXELS", 60 * 40)
    check_input(data)


def test_a_file_that_unfolds_to_gigabytes_is_refused_by_its_head() -> None:
    head = bytearray(saved(Image.new("1", (8, 8)), "png"))
    head[16:24] = (30_000).to_bytes(4) * 2
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4)
    with pytest.raises(InvalidRequest):
        check_input(bytes(head))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF data
@pytest.mark.parametrize("picture_format", ["jpeg", "png", "webp"])
def test_a_damaged_picture_is_read_or_refused_and_nothing_else(picture_format: str) -> None:
    chance = random.Random(picture_format)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = saved(striped(), picture_format, exif=exif)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            open_input(bytes(data), 64, 64)
        except InvalidRequest:
            pass
