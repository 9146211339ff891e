"""Anti-aliased drawing in final-pixel coordinates: PIL at three times the size, box-filtered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
Point = tuple[float, float]
Pixels = npt.NDArray[np.uint8]

_SCALE = 3


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """`first` at amount 0, `second` at amount 1."""
    a, b = first, second
    return (
        a[0] + (b[0] - a[0]) * amount,
        a[1] + (b[1] - a[1]) * amount,
        a[2] + (b[2] - a[2]) * amount,
    )


def tint(colour: Colour, light: Colour) -> Colour:
    """The colour of a surface under coloured light (1.0 = white light)."""
    return (colour[0] * light[0], colour[1] * light[1], colour[2] * light[2])


def _rgba(colour: Colour, alpha: float) -> tuple[int, int, int, int]:
    red, green, blue = (min(255, max(0, round(channel))) for channel in colour)
    return red, green, blue, round(255 * alpha)


class Canvas:
    """One picture being drawn; every length is in pixels of the finished picture."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._image = Image.new("RGB", (width * _SCALE, height * _SCALE))
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def polygon(self, points: Sequence[Point], colour: Colour, alpha: float = 1.0) -> None:
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], _rgba(colour, alpha))

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        box = [(x - rx) * _SCALE, (y - ry) * _SCALE, (x + rx) * _SCALE, (y + ry) * _SCALE]
        self._draw.ellipse(box, _rgba(colour, alpha))

    def disc(self, x: float, y: float, radius: float, colour: Colour, alpha: float = 1.0) -> None:
        self.ellipse(x, y, radius, radius, colour, alpha)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, colour: Colour
    ) -> None:
        box = [left * _SCALE, top * _SCALE, right * _SCALE, bottom * _SCALE]
        self._draw.rectangle(box, _rgba(colour, 1.0))

    def line(
        self, points: Sequence[Point], width: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, _rgba(colour, alpha), max(1, round(width * _SCALE)), "curve")

    def gradient(self, top: float, bottom: float, stops: Sequence[tuple[float, Colour]]) -> None:
        """Fill the rows from top to bottom; stops are (0..1 from the top, colour)."""
        first, last = round(top * _SCALE), round(bottom * _SCALE)
        where = np.linspace(0.0, 1.0, max(1, last - first))
        places = [place for place, _ in stops]
        rows = np.stack(
            [np.interp(where, places, [colour[c] for _, colour in stops]) for c in range(3)], -1
        )
        strip = Image.fromarray(np.clip(rows + 0.5, 0, 255).astype(np.uint8)[:, None, :])
        self._image.paste(strip.resize((self.width * _SCALE, len(where))), (0, first))

    def veil(self, colour: Colour, stops: Sequence[tuple[float, float]]) -> None:
        """Cover the picture with one colour; stops are (0..1 from the top, opacity)."""
        where = np.linspace(0.0, 1.0, self.height * _SCALE)
        opacity = np.interp(where, [place for place, _ in stops], [alpha for _, alpha in stops])
        column = Image.fromarray((255 * opacity).astype(np.uint8)[:, None])
        mask = column.resize(self._image.size)
        self._image.paste(_rgba(colour, 1.0)[:3], (0, 0, *self._image.size), mask)

    def glow(self, x: float, y: float, radius: float, colour: Colour, alpha: float) -> None:
        """A soft round light that fades to nothing at its radius."""
        side = 32
        axis = (np.arange(side) + 0.5) / side * 2 - 1
        fade = np.clip(1 - np.hypot(axis[:, None], axis[None, :]), 0, 1) ** 2
        size = max(2, round(2 * radius * _SCALE))
        mask = Image.fromarray((255 * alpha * fade).astype(np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        corner = (round((x - radius) * _SCALE), round((y - radius) * _SCALE))
        self._image.paste(
            _rgba(colour, 1.0)[:3], (*corner, corner[0] + size, corner[1] + size), mask
        )

    def pixels(self) -> Pixels:
        """The finished picture, (height, width, 3)."""
        small = self._image.resize((self.width, self.height), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.uint8)
