"""`glimpse.pictures`: encoded pictures, in and out."""

import io
import random
import threading
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse import pictures
from glimpse.errors import InvalidRequest
from glimpse.pictures import (
    READERS,
    check_input,
    encode_final,
    encode_preview,
    mask_of_transparent,
    open_input,
    upright_size,
)
from glimpse.request import PreviewSpec
from tests.strange_pictures import READABLE, REFUSED, TOO_LARGE

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
    picture = encode_final(striped(), picture_format, 95)
    assert picture.content_type == f"image/{picture_format}"
    assert (picture.width, picture.height) == (60, 40)
    image = opened(picture.data)
    assert (image.format or "").lower() == picture_format
    assert image.size == (60, 40)
    assert image.getpixel((5, 5)) == pytest.approx(RED, abs=6)


def test_png_loses_nothing() -> None:
    image = striped()
    assert opened(encode_final(image, "png", 95).data).tobytes() == image.tobytes()


@pytest.mark.parametrize("picture_format", ["jpeg", "webp"])
def test_a_final_picture_is_as_good_as_wanted(picture_format: str) -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    sizes = [len(encode_final(noise, picture_format, quality).data) for quality in (0, 50, 100)]
    assert sizes == sorted(set(sizes))
    assert sizes[0] < sizes[2] / 4


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
    for picture_format in ("webp", "png"):
        other = encode_preview(noise, PreviewSpec(1, picture_format, 70, 512))
        assert other.content_type == f"image/{picture_format}"
        assert opened(other.data).format == picture_format.upper()


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


def turned(image: Image.Image, picture_format: str = "png") -> bytes:
    """As a camera that was held upright saves it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image, picture_format, exif=exif)


def test_the_size_of_a_picture_is_that_of_the_picture_turned_upright() -> None:
    assert upright_size(saved(striped(), "webp")) == (60, 40)
    assert upright_size(turned(striped(), "jpeg")) == (40, 60)


def see_through(mode: str = "RGBA") -> Image.Image:
    """Red, see-through in its left half, and of the rest a column only nearly opaque."""
    image = Image.new("RGBA", (6, 4), (*RED, 255))
    image.paste((*BLUE, 0), (0, 0, 3, 4))
    image.paste((*BLUE, 1), (3, 0, 4, 4))
    if mode == "P":
        indices = Image.new("P", (6, 4), 1)
        indices.putpalette([0, 0, 0, 255, 0, 0])
        indices.paste(0, (0, 0, 3, 4))
        indices.info["transparency"] = 0
        return indices
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("picture_format", ["png", "webp"])
def test_a_mask_is_white_just_where_it_was_fully_transparent(
    mode: str, picture_format: str
) -> None:
    data = saved(see_through(mode), picture_format, lossless=True)
    mask = opened(mask_of_transparent(data, (6, 4)))
    assert mask.format == "PNG"
    assert np.array_equal(np.asarray(mask.convert("L")), [[255] * 3 + [0] * 3] * 4)
    check_input(mask_of_transparent(data, (6, 4)))


def test_a_mask_is_turned_upright_as_its_picture_is() -> None:
    mask = opened(mask_of_transparent(turned(see_through()), (4, 6))).convert("L")
    assert np.array_equal(np.asarray(mask), [[255] * 4] * 3 + [[0] * 4] * 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_a_mask_that_cannot_be_transparent_is_refused(mode: str) -> None:
    with pytest.raises(InvalidRequest, match="'mask'.*has no alpha channel"):
        mask_of_transparent(saved(Image.new(mode, (8, 8)), "png"), (8, 8), "mask")


@pytest.mark.parametrize("size", [(6, 5), (4, 6), (12, 8)])
def test_a_mask_of_another_size_than_its_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="'mask'.*must be as wide"):
        mask_of_transparent(saved(see_through(), "png"), size, "mask")


@pytest.mark.parametrize("data", [b"", b"hello", saved(striped(), "gif")])
def test_what_is_no_picture_has_no_size_and_is_no_mask(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="'image'.*is not a picture"):
        upright_size(data, "image")
    with pytest.raises(InvalidRequest, match="'mask'.*is not a picture"):
        mask_of_transparent(data, (60, 40), "mask")


def test_only_two_pictures_are_read_at_once() -> None:
    both, go_on = threading.Barrier(3), threading.Event()
    reading: list[int] = []

    def read(number: int) -> int:
        reading.append(number)
        if number < 2:
            both.wait(5)
        go_on.wait(5)
        return number

    several = [READERS.submit(read, number) for number in range(5)]
    try:
        both.wait(5)
        assert sorted(reading) == [0, 1]
    finally:
        go_on.set()
    assert [each.result(5) for each in several] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", READABLE)
def test_pictures_of_every_kind_are_read(kind: str) -> None:
    assert open_input(READABLE[kind], 64, 64).size == (64, 64)
    check_input(READABLE[kind])
    assert min(upright_size(READABLE[kind])) > 0


@pytest.mark.parametrize("kind", REFUSED)
def test_or_refused(kind: str) -> None:
    reason = "has more than 67108864 pixels" if kind in TOO_LARGE else "is not a picture"
    for read in (check_input, lambda data: open_input(data, 64, 64)):
        with pytest.raises(InvalidRequest, match=reason):
            read(REFUSED[kind])
