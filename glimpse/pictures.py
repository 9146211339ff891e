"""Pictures, encoded for clients. Pillow alone: the HTTP edge uses it too."""

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from glimpse.ports import Picture
from glimpse.request import PreviewSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
