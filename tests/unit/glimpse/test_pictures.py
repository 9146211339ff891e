"""`glimpse.pictures`: pictures, encoded for clients."""

import io

import pytest
from PIL import Image

from glimpse.pictures import encode_final, encode_preview
from glimpse.request import PreviewSpec

RED, BLUE = (255, 0, 0), (0, 0, 255)


def striped(width: int = 60, height: int = 40) -> Image.Image:
    """Red to the left, blue to the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


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
