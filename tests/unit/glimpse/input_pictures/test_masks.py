"""`glimpse.input_pictures.masks`: which latents a mask selects, and what it is warned of."""

import math
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glimpse.input_pictures.inspection import inspect
from glimpse.input_pictures.masks import Mask, MaskOf, read_mask
from tests.strange_pictures import encoded, field_file

SIDE = 128
CELL = 8


def read(
    data: bytes, width: int = SIDE, height: int = SIDE, of: MaskOf = "white", field: str = "mask"
) -> Mask:
    return read_mask(inspect(data, field, 2**24), width, height, CELL, of)


def mask_of(image: Image.Image, **options: Any) -> Mask:
    return read(encoded(image, "PNG"), **options)


def said(image: Image.Image, **options: Any) -> str:
    return "; ".join(mask_of(image, **options).warnings)


def disc(mode: str = "L", ground: Any = 0, colour: Any = 255) -> Image.Image:
    image = Image.new(mode, (SIDE, SIDE), ground)
    ImageDraw.Draw(image).ellipse((32, 32, 96, 96), fill=colour)
    return image


DISC = mask_of(disc())


# Cells


@pytest.mark.parametrize("white", [(0, 0), (7, 7), (3, 5)])
def test_a_cell_is_painted_anew_for_any_white_pixel_of_it(white: tuple[int, int]) -> None:
    image = Image.new("L", (SIDE, SIDE))
    image.putpixel((16 + white[0], 40 + white[1]), 255)
    cells = mask_of(image).cells
    assert cells.shape == (16, 16) and cells.dtype == bool
    assert [*zip(*np.nonzero(cells), strict=True)] == [(5, 2)]


@pytest.mark.parametrize(("grey", "white"), [(0, False), (127, False), (128, True), (255, True)])
def test_grey_counts_as_the_nearer_of_black_and_white(grey: int, white: bool) -> None:
    assert (mask_of(Image.new("L", (SIDE, SIDE), grey)).cells == white).all()


@pytest.mark.parametrize("times", [1, 2, 3, 0.5])
def test_a_mask_of_another_size_selects_the_same(times: float) -> None:
    image = Image.new("L", (SIDE, SIDE))
    image.paste(255, (24, 8, 88, 120))
    resized = image.resize((int(SIDE * times),) * 2, Image.Resampling.NEAREST)
    assert np.array_equal(mask_of(resized).cells, mask_of(image).cells)


def test_a_mask_is_cropped_as_its_picture_is() -> None:
    image = Image.new("L", (128, 256))
    image.paste(255, (64, 0, 128, 160))  # of the middle, 128 x 64, all but the left half
    cells = mask_of(image, width=64, height=32).cells
    assert np.array_equal(cells, np.tile(np.repeat([False, True], 4), (4, 1)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("L", (64, 128))
    image.paste(255, (0, 0, 24, 40))
    upright = mask_of(image, width=64, height=128).cells
    turn: dict[int, Any] = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90,
    }  # fmt: skip
    expected = turn[orientation](upright)
    turned = read(encoded(image, "PNG", exif=exif), expected.shape[1] * 8, expected.shape[0] * 8)
    assert np.array_equal(turned.cells, expected)


# Lines


def pieces(cells: NDArray[np.bool_]) -> int:
    """In how many pieces cells are that touch at their sides."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(cells), strict=True)}
    count = 0
    while left:
        count += 1
        reached = deque([left.pop()])
        while reached:
            y, x = reached.popleft()
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    reached.append(near)
    return count


def line(angle: float, offset: float, width: float, how: str, times: int) -> Image.Image:
    """Through the whole mask, `offset` off its middle, drawn as programs draw."""
    side = SIDE * times
    across = np.array([math.sin(angle), -math.cos(angle)])
    middle = side / 2 + across * offset * times
    if how == "exact":
        y, x = np.mgrid[0:side, 0:side] + 0.5
        off = (x - middle[0]) * across[0] + (y - middle[1]) * across[1]
        return Image.fromarray((np.abs(off) <= width * times / 2).astype(np.uint8) * 255)
    scale = {"plain": 1, "smooth": 4}[how]
    along = np.array([math.cos(angle), math.sin(angle)]) * 2 * side
    image = Image.new("L", (side * scale,) * 2)
    ends = [tuple(scale * (middle + sign * along)) for sign in (-1, 1)]
    ImageDraw.Draw(image).line(ends, fill=255, width=round(width * times * scale))
    return image.resize((side, side), Image.Resampling.BOX)


@settings(max_examples=150, deadline=None)
@given(
    angle=st.floats(0, math.pi),
    offset=st.floats(-50, 50),
    width=st.sampled_from([3, 5, 7, 12]),
    how=st.sampled_from(["exact", "plain", "smooth"]),
    times=st.sampled_from([1, 2, 3]),
)
def test_a_line_stays_unbroken_at_any_offset_and_angle(
    angle: float, offset: float, width: int, how: str, times: int
) -> None:
    drawn = line(angle, offset, width, how, times)
    cells = mask_of(drawn).cells
    assert pieces(cells) == 1
    # From end to end: every cell that the line covers for the most part is there.
    covered = np.asarray(drawn.resize((16, 16), Image.Resampling.BOX)) > 127
    assert cells[covered].all()


@pytest.mark.parametrize("angle", [0, math.pi / 4, math.pi / 2, math.atan(0.5)])
def test_a_line_of_three_pixels_at_every_offset_of_a_cell(angle: float) -> None:
    for offset in np.arange(0, 8, 0.25):
        for how in ("exact", "plain", "smooth"):
            assert pieces(mask_of(line(angle, offset, 3, how, 1)).cells) == 1


def thin_lines() -> bytes:
    """Two lines of 7 pixels, of which no pixel is at the upper left of a cell."""
    image = Image.new("L", (SIDE, SIDE))
    for left in (33, 65):
        image.paste(255, (left, 0, left + 7, SIDE))
    return encoded(image, "PNG")


@pytest.mark.parametrize("real", [False, True])
def test_thin_lines_are_repainted(real: bool) -> None:
    found = read(field_file("mask_thin_lines.png") if real else thin_lines())
    assert found.warnings == ()
    expected = np.zeros((16, 16), bool)
    expected[:, [4, 8]] = True
    assert np.array_equal(found.cells, expected)


def off_the_cells() -> bytes:
    """Eight by eight white pixels in the middle of four cells."""
    image = Image.new("L", (SIDE, SIDE))
    image.paste(255, (36, 36, 44, 44))
    return encoded(image, "PNG")


@pytest.mark.parametrize("real", [False, True])
def test_a_mask_whose_white_lies_between_cells_is_warned_of(real: bool) -> None:
    found = read(field_file("mask_off.png") if real else off_the_cells())
    assert found.cells.sum() == 4
    assert found.warnings == (
        "mask repaints whole cells of 8 x 8 pixels, 4.0 times the area that is white.",
    )


# What programs send


def keyed(image: Image.Image) -> Image.Image:
    """White with a transparent ground, as a canvas has it."""
    strokes = Image.new("RGBA", image.size, (255, 255, 255, 255))
    strokes.putalpha(image.convert("L"))
    return strokes


@pytest.mark.parametrize(
    "image",
    [
        disc("1", 0, 1),
        disc("L"),
        disc("RGB", "black", "white"),
        disc("RGB", "black", "yellow"),
        disc("L").convert("P"),
        disc("RGBA", (0, 0, 0, 255), (255, 255, 255, 255)),
        disc("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),  # white strokes on nothing
        disc("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)),
        disc("RGBA", (0, 0, 0, 0), (255, 255, 255, 128)),
        disc("LA", (0, 0), (255, 255)),
        Image.fromarray(np.asarray(disc(), np.uint16) * 257),
        keyed(disc()),
    ],
)
def test_white_is_what_is_painted_anew_in_every_mode(image: Image.Image) -> None:
    found = mask_of(image)
    assert np.array_equal(found.cells, DISC.cells)
    assert found.warnings == ()


@pytest.mark.parametrize("picture_format", ["JPEG", "WEBP", "AVIF"])
def test_a_lossy_mask_selects_about_the_same(picture_format: str) -> None:
    cells = read(encoded(disc("RGB", "black", "white"), picture_format, quality=80)).cells
    assert (cells != DISC.cells).sum() <= 8


@pytest.mark.parametrize(
    ("image", "warning"),
    [
        (Image.new("L", (64, 64)), "mask selects nothing, as no part of it is white"),
        (Image.new("RGBA", (64, 64)), "mask selects nothing"),
        (Image.new("L", (64, 64), 255), "mask selects everything, as all of it is white"),
        (
            Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)),
            "mask selects everything, as some of every 8 x 8 pixels is white",
        ),
        # A brush of little strength, white or red.
        (disc("RGBA", (0, 0, 0, 0), (255, 255, 255, 100)), "white and hardly opaque"),
        (disc("RGBA", (0, 0, 0, 0), (255, 0, 0, 100)), "mask is transparent in parts"),
        # Black strokes on nothing, a red brush, a hole in a photograph or in black.
        (disc("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "mask selects nothing"),
        (disc("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "mask is transparent in parts"),
        (disc("RGBA", (0, 0, 0, 0), (255, 0, 0, 255)), "mask is transparent in parts"),
        (disc("RGBA", (90, 200, 60, 255), (0, 0, 0, 0)), "mask is transparent in parts"),
        (disc("RGBA", (90, 80, 60, 255), (0, 0, 0, 0)), "mask is transparent in parts"),
        (disc("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)), "mask is transparent in parts"),
        (Image.linear_gradient("L"), "mask is grey in large parts"),
    ],
)
def test_a_mask_that_may_be_meant_otherwise_is_warned_of(image: Image.Image, warning: str) -> None:
    assert warning in said(image)


def test_an_empty_canvas_selects_nothing_and_nothing_else_is_said() -> None:
    assert said(Image.new("RGBA", (64, 64))).count(";") == 1


def test_a_warning_begins_with_the_clients_name_for_the_field() -> None:
    assert said(Image.new("L", (64, 64)), field="mask_url").startswith("mask_url selects nothing")


# Masks of transparency


def see_through(mode: str = "RGBA") -> Image.Image:
    """Red, see-through in its left half, and of the rest eight columns only nearly opaque."""
    image = Image.new("RGBA", (48, 32), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 24, 32))
    image.paste((0, 0, 255, 1), (24, 0, 32, 32))
    if mode == "P":
        indices = Image.new("P", (48, 32), 1)
        indices.putpalette([0, 0, 0, 255, 0, 0])
        indices.paste(0, (0, 0, 24, 32))
        indices.info["transparency"] = 0
        return indices
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("picture_format", ["PNG", "WEBP"])
def test_just_what_is_fully_transparent_is_painted_anew(mode: str, picture_format: str) -> None:
    data = encoded(see_through(mode), picture_format, lossless=True)
    found = read(data, 48, 32, of="transparent")
    assert np.array_equal(found.cells, np.tile(np.repeat([True, False], 3), (4, 1)))
    assert found.warnings == ()


@pytest.mark.parametrize(("alpha", "word"), [(0, "everything"), (1, "nothing"), (255, "nothing")])
def test_a_mask_of_transparency_that_selects_all_or_nothing_says_so(alpha: int, word: str) -> None:
    image = Image.new("RGBA", (64, 64), (9, 9, 9, alpha))
    told = said(image, of="transparent")
    assert told.startswith(f"mask selects {word}")
    assert "it is fully transparent" in told
