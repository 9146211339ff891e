"""Encoded pictures, in and out. Pillow alone: the HTTP edge uses it too."""

import io
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from glimpse.errors import invalid
from glimpse.ports import Picture
from glimpse.request import PreviewSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READABLE = ("JPEG", "PNG", "WEBP")
# What Pillow raises for them, as damaging pictures at random has shown.
BROKEN_PICTURE = (OSError, SyntaxError, ValueError, struct.error)
MAX_INPUT_PIXELS = 64 * 2**20  # a small file can unfold to gigabytes
READERS = ThreadPoolExecutor(2, "pictures")
"""The threads for whatever opens a picture: a large one takes half a gigabyte while it is read, so
there are never many at once."""

PNG_OPTIONS = {"compress_level": 1}  # a little larger, several times sooner


def encode_final(image: Image.Image, picture_format: str, quality: int) -> Picture:
    """A finished picture; `quality`, 0 to 100, is of JPEG and WebP."""
    return _encode(image, picture_format, quality)


def encode_preview(image: Image.Image, spec: PreviewSpec) -> Picture:
    """A preview, no longer than `spec.size`."""
    if max(image.size) > spec.size:
        image = ImageOps.contain(image, (spec.size, spec.size))
    return _encode(image, spec.format, spec.quality)


def encode_enlarged(pixels: "NDArray[np.uint8]", times: int, spec: PreviewSpec) -> Picture:
    """Pixels [h, w, 3] as a preview, made smooth and `times` as large, up to `spec.size`."""
    side = min(times * max(pixels.shape[:2]), spec.size)
    return encode_preview(ImageOps.contain(Image.fromarray(pixels), (side, side)), spec)


def _encode(image: Image.Image, picture_format: str, quality: int) -> Picture:
    """PNG knows no quality."""
    options = PNG_OPTIONS if picture_format == "png" else {"quality": quality}
    buffer = io.BytesIO()
    image.save(buffer, picture_format, **options)
    return Picture(buffer.getvalue(), f"image/{picture_format}", image.width, image.height)


def check_input(data: bytes, field: str = "image_url") -> None:
    """Raises `InvalidRequest`, about a field, for what is no picture, or a damaged one."""
    with _opened(data, field) as image:
        image.load()


def upright_size(data: bytes, field: str = "image_url") -> tuple[int, int]:
    """Width and height of a picture as it is used. Raises `InvalidRequest`."""
    with _opened(data, field) as image:
        return ImageOps.exif_transpose(image).size


def has_holes(data: bytes, field: str = "image_url") -> bool:
    """Whether a picture has fully transparent pixels. Raises `InvalidRequest`."""
    with _opened(data, field) as image:
        if not image.has_transparency_data:
            return False
        least, _ = image.convert("RGBA").getchannel("A").getextrema()
    return least == 0


def mask_of_transparent(data: bytes, size: tuple[int, int], field: str = "mask_url") -> bytes:
    """A picture as a mask, PNG: white where it is fully transparent, else black. It must have some
    transparency to tell, and the width and height `size`. Raises `InvalidRequest`.
    """
    with _opened(data, field) as image:
        if not image.has_transparency_data:
            raise invalid(field, "has no alpha channel; what is fully transparent is edited")
        alpha = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
    if alpha.size != size:
        raise invalid(field, "must be as wide and as high as the picture")
    buffer = io.BytesIO()
    alpha.point(lambda value: 0 if value else 255, "1").save(buffer, "PNG")
    return buffer.getvalue()


def open_inputs(
    picture: bytes, mask: bytes | None, width: int, height: int
) -> tuple[Image.Image, Image.Image | None]:
    """An input picture and its mask, if any, as they are used: see `open_input`."""
    opened = open_input(picture, width, height)
    return opened, None if mask is None else open_input(mask, width, height, "mask_url")


def open_input(data: bytes, width: int, height: int, field: str = "image_url") -> Image.Image:
    """An input picture in RGB, cover-cropped to the size. Raises `InvalidRequest`."""
    with _opened(data, field) as image:
        upright = _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
    return ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey in 16 bits, which Pillow would cut off at 255, brought down to 8."""
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")


@contextmanager
def _opened(data: bytes, field: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=READABLE) as image:
            if image.width * image.height > MAX_INPUT_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except Image.DecompressionBombError:  # Pillow's own, too, of several times as many
        raise invalid(field, f"has more than {MAX_INPUT_PIXELS} pixels") from None
    except BROKEN_PICTURE:
        raise invalid(field, "is not a picture that can be read; send JPEG, PNG or WebP") from None
