"""An input picture, or its mask, as the model takes it: decoded once, at the size that is made."""

import io
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glimpse.input_pictures import boxes, colours, heif, icc, png
from glimpse.input_pictures.inspection import (
    LYING,
    PILLOW_ERRORS,
    InputPicture,
    unreadable,
)

Pixels: TypeAlias = NDArray[np.uint8]
"""A picture in sRGB, shape [height, width, 3]."""

UPRIGHT = {  # by Exif's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DRAFT_TIMES = 2
"""A large JPEG is decoded at an eighth, a quarter or a half of its size, and never smaller than so
many times the size that is needed: what is left to the better filter decides how sharp it is."""
REDUCING_GAP = 3.0  # Pillow's word for the same in its own scaling


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as it is stored, not turned upright; `profile` is of its colours, `bits` are those
    of a sample in the file."""

    image: Image.Image
    profile: bytes | None
    bits: int


def read_pixels(picture: InputPicture, width: int, height: int) -> Pixels:
    """A picture as a browser shows it on a white page: upright, in sRGB, composed, and then
    cover-cropped to a size. Raises `InvalidRequest`."""
    size = stored(picture, width, height)
    return pixels_of(decode(picture, size), picture, size)


def pixels_of(decoded: Decoded, picture: InputPicture, size: tuple[int, int]) -> Pixels:
    """The same of a picture that is decoded; `size` is as the file lies."""
    shown = colours.on_white(decoded.image, decoded.profile, decoded.bits)
    if shown.size != size:
        shown = shown.resize(
            size, Image.Resampling.LANCZOS, cover_box(shown.size, size), REDUCING_GAP
        )
    return np.asarray(upright(shown, picture.orientation))


def decode(picture: InputPicture, size: tuple[int, int]) -> Decoded:
    """All pixels that covering a size needs. Raises `InvalidRequest`."""
    data, profile, bits = picture.data, None, 8
    if picture.format == "PNG":
        header = png.read_header(data)
        data, profile, bits = png.pixels_alone(data), _png_profile(header), header.bits
    elif picture.format == "HEIF":
        heif.register()
    try:
        with Image.open(io.BytesIO(data), formats=[picture.format]) as image:
            if picture.format == "JPEG":
                image.draft(None, _draft_size(image.size, size))
            image.load()
            if picture.format != "PNG":
                profile = image.info.get("icc_profile")
            if profile is None and picture.format in ("AVIF", "HEIF"):
                profile = icc.of_cicp(*boxes.colours(data), icc.SRGB_CURVE)
            return Decoded(image, profile, bits)
    except PILLOW_ERRORS as failure:
        raise unreadable(picture.field, failure) from None


def stored(picture: InputPicture, width: int, height: int) -> tuple[int, int]:
    """A size as the file lies: its picture is turned upright once it is small."""
    return (height, width) if picture.orientation in LYING else (width, height)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    how = UPRIGHT.get(orientation)
    return image if how is None else image.transpose(how)


def cover_box(have: tuple[int, int], want: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest part, in the middle, with the aspect that is wanted: left, top, right, bottom."""
    scale = min(have[0] / want[0], have[1] / want[1])
    width, height = min(want[0] * scale, have[0]), min(want[1] * scale, have[1])
    left, top = (have[0] - width) / 2, (have[1] - height) / 2
    return left, top, min(left + width, have[0]), min(top + height, have[1])


def _draft_size(have: tuple[int, int], want: tuple[int, int]) -> tuple[int, int]:
    """What the whole picture may be decoded at, so that the part that is kept is large enough."""
    scale = min(have[0] / want[0], have[1] / want[1]) / DRAFT_TIMES
    return max(1, int(have[0] / scale)), max(1, int(have[1] / scale))


def _png_profile(header: png.PngHeader) -> bytes | None:
    """In the order of https://www.w3.org/TR/png-3/#13Color-space-priority."""
    meaning = header.meaning
    if (cicp := meaning.get(b"cICP")) is not None and len(cicp) == 4:
        return icc.of_cicp(cicp[0], cicp[1], icc.BT1886_CURVE)
    if header.profile is not None:
        return header.profile
    gamma = int.from_bytes(meaning.get(b"gAMA", b"")[:4]) / 100_000
    if b"sRGB" in meaning or not gamma:
        return None
    curve = 0, (1 / gamma,)
    if len(chrm := meaning.get(b"cHRM", b"")) == 32:
        values = np.frombuffer(chrm, ">u4") / 100_000
        return icc.profile_of(tuple((float(x), float(y)) for x, y in values.reshape(4, 2)), curve)
    # As libpng: so near to 1/2.2, and alone, it means sRGB.
    return None if abs(gamma * 2.2 - 1) < 0.05 else icc.profile_of(icc.SRGB_PRIMARIES, curve)
