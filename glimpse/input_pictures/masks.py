"""What a mask means: which latents of the picture are made anew.

A cell is the 8 x 8 pixels of one latent. It is made anew where one pixel's share of it is white. So
all that is white is made anew, and white that hangs together is cells that hang together, side by
side: a line of any width stays unbroken. With a larger share, one of 3 pixels does not.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glimpse.input_pictures import colours
from glimpse.input_pictures.inspection import InputPicture
from glimpse.input_pictures.reading import (
    Decoded,
    Pixels,
    cover_box,
    decode,
    pixels_of,
    stored,
    upright,
)

Cells: TypeAlias = NDArray[np.bool_]
"""Shape [height, width] of latents; True where the picture is made anew."""

MaskOf: TypeAlias = Literal["white", "transparent"]
"""What is made anew: white, with transparent parts as black; or what is fully transparent."""

SHARE = 1 / 64
MUCH_LARGER = 2  # times the white area, where a cell is made anew for a part of it
WHITE = 128  # grey counts as the nearer of black and white
NEARLY_WHITE = 224
GREY = range(64, 192)
MUCH = 0.25  # of a mask that is grey; the soft edges of a brush are less


@dataclass(frozen=True, slots=True)
class Mask:
    """`warnings` are sentences that begin with the name of the client's field."""

    cells: Cells
    warnings: tuple[str, ...]


def read_mask(picture: InputPicture, width: int, height: int, factor: int, of: MaskOf) -> Mask:
    """A mask for a picture of a size in pixels; `factor` is the side of a cell.

    Raises `InvalidRequest`.
    """
    size = stored(picture, width, height)
    return _mask_in(decode(picture, size), picture, size, factor, of)


def read_with_holes(
    picture: InputPicture, mask_field: str, width: int, height: int, factor: int
) -> tuple[Pixels, Mask]:
    """A picture whose transparent parts are its mask; decoded once. Raises `InvalidRequest`."""
    size = stored(picture, width, height)
    decoded = decode(picture, size)
    mask = _mask_in(decoded, replace(picture, field=mask_field), size, factor, "transparent")
    return pixels_of(decoded, picture, size), mask


def _mask_in(
    decoded: Decoded, picture: InputPicture, size: tuple[int, int], factor: int, of: MaskOf
) -> Mask:
    """`size` is as the file lies."""
    if of == "transparent":
        alpha = colours.alpha(decoded.image, decoded.bits)
        meant = "fully transparent"
        white = alpha.point(lambda value: 0 if value else 255)
        unsure = []
    else:
        meant = "white"
        # A mask is data: a profile of its colours changes nothing.
        grey = colours.composed(decoded.image, None, decoded.bits, "black").convert("L")
        white = grey.point(lambda value: 255 if value >= WHITE else 0)
        unsure = _unsure(decoded, grey)
    cells_of = size[0] // factor, size[1] // factor
    shares = white.resize(cells_of, Image.Resampling.BOX, cover_box(white.size, size))
    cells = np.asarray(upright(shares, picture.orientation)) >= round(SHARE * 255)
    told = [*_extreme(cells, shares, meant), *_grown(cells, shares, meant), *unsure]
    return Mask(cells, tuple(f"{picture.field} {each}." for each in told))


def has_holes(picture: InputPicture) -> bool:
    """Whether a picture has fully transparent pixels. Raises `InvalidRequest`."""
    decoded = decode(picture, picture.stored_size)
    return colours.alpha(decoded.image, decoded.bits).histogram()[0] > 0


def _extreme(cells: Cells, shares: Image.Image, meant: str) -> list[str]:
    if not cells.any():
        return [f"selects nothing, as no part of it is {meant}; the picture is kept as it is"]
    if not cells.all():
        return []
    whole = shares.getextrema()[0] == 255
    why = f"all of it is {meant}" if whole else f"some of every 8 x 8 pixels is {meant}"
    return [f"selects everything, as {why}; nothing of the picture is kept"]


def _grown(cells: Cells, shares: Image.Image, meant: str) -> list[str]:
    """Where much more is made anew than was asked for."""
    asked = float(np.asarray(shares, np.float32).sum()) / 255
    if cells.any() and cells.sum() > MUCH_LARGER * asked:
        times = cells.sum() / max(asked, SHARE)
        return [f"repaints whole cells of 8 x 8 pixels, {times:.1f} times the area that is {meant}"]
    return []


def _unsure(decoded: Decoded, grey: Image.Image) -> list[str]:
    """Where a mask may have been meant otherwise."""
    told = []
    alpha = colours.alpha(decoded.image, decoded.bits)
    levels = grey.histogram()
    if _is_keyed(alpha) and (_has_dark(grey, alpha) or not any(levels[WHITE:])):
        told.append(
            "is transparent in parts, and these count as black, like all that is not white, or "
            "white and hardly opaque; white is what is painted anew"
        )
    elif sum(levels[GREY.start : GREY.stop]) > MUCH * sum(levels):
        told.append("is grey in large parts; grey counts as the nearer of black and white")
    return told


def _is_keyed(alpha: Image.Image) -> bool:
    """Whether something is there, on a transparent ground."""
    return alpha.histogram()[0] > 0 and alpha.getbbox() is not None


def _has_dark(grey: Image.Image, alpha: Image.Image) -> bool:
    """Whether anything opaque is not white."""
    opaque = np.asarray(alpha) == 255
    return bool((np.asarray(grey)[opaque] < NEARLY_WHITE).any())
