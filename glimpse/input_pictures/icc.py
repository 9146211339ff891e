"""ICC profiles: from chromaticities and a curve, and as transforms to sRGB."""

import io
import struct
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Chromaticities: TypeAlias = tuple[tuple[float, float], ...]
"""CIE x and y of white, red, green and blue."""

D65 = (0.3127, 0.3290)
SRGB_PRIMARIES: Chromaticities = (D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))

# ICC.1:2022: `para` curves, by function type and parameters.
SRGB_CURVE = (3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
BT1886_CURVE = (0, (2.4,))
Curve: TypeAlias = tuple[int, tuple[float, ...]]

# By their numbers in ITU-T H.273.
CICP_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB_PRIMARIES,
    2: SRGB_PRIMARIES,
    4: ((0.310, 0.316), (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: (D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
CICP_CURVES: dict[int, Curve] = {
    2: SRGB_CURVE,
    4: (0, (2.2,)),
    5: (0, (2.8,)),
    8: (0, (1.0,)),
    13: SRGB_CURVE,
}
UNSPECIFIED = 2
HDR_CURVES = frozenset({16, 18})
VIDEO_CURVES = frozenset({1, 6, 14, 15})  # of cameras; what a screen makes of them is agreed on

BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
D50 = np.array([0.9642, 1.0, 0.8249])  # the white of profile connection spaces
COLOUR_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK"}  # of a profile, by mode
MAX_BYTES = 4 * 2**20
SAME = 1  # levels that a conversion to sRGB may be off, and means nothing

Transform: TypeAlias = Callable[[Image.Image], Image.Image]


def to_srgb(profile: bytes | None, mode: str) -> Transform | None:
    """How to convert an image of a mode (L, RGB or CMYK) from the colours of a profile.

    None where there is nothing to convert: no profile, a broken one, one for pictures of another
    kind, or one that is sRGB itself.
    """
    if profile is None or len(profile) > MAX_BYTES or profile[16:20] != COLOUR_SPACES[mode]:
        return None
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
        )
        changed = apply(transform, _probe(mode))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode != "CMYK":
        shown = np.asarray(_probe(mode).convert("RGB"), np.int16)
        if np.abs(np.asarray(changed, np.int16) - shown).max() <= SAME:
            return None
    return lambda image: apply(transform, image)


def apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None, "it is only None in place"
    return converted


def _probe(mode: str) -> Image.Image:
    """Colours from all over a mode's cube."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    bands = Image.getmodebands(mode)
    cube = np.stack(np.meshgrid(*[levels] * bands, indexing="ij"), axis=-1)
    return Image.frombytes(mode, (len(levels) ** bands, 1), cube.tobytes())


def of_cicp(primaries: int, transfer: int, video: Curve) -> bytes | None:
    """The profile that numbers of ITU-T H.273 stand for; None for those that are unknown or HDR.
    `video` is what the curves of video count as: browsers differ between formats."""
    curve = video if transfer in VIDEO_CURVES else CICP_CURVES.get(transfer)
    if primaries not in CICP_PRIMARIES or curve is None:
        return None
    return profile_of(CICP_PRIMARIES[primaries], curve)


def profile_of(primaries: Chromaticities, curve: Curve) -> bytes | None:
    """An ICC profile of a display with these colours; None where no display has them."""
    try:
        matrix = _to_d50(primaries)
    except (np.linalg.LinAlgError, ZeroDivisionError, FloatingPointError):
        return None
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 8:
        return None
    function, parameters = curve
    curve_tag = struct.pack(">4s4xHxx", b"para", function) + _fixed(parameters)
    tags = {name: _xyz(column) for name, column in zip(COLUMNS, matrix.T, strict=True)}
    tags |= {b"wtpt": _xyz(D50), b"rTRC": curve_tag, b"gTRC": curve_tag, b"bTRC": curve_tag}
    return _file(tags)


COLUMNS = (b"rXYZ", b"gXYZ", b"bXYZ")


def _to_d50(primaries: Chromaticities) -> NDArray[np.float64]:
    """Linear RGB to CIE XYZ, adapted to D50: http://www.brucelindbloom.com, "RGB/XYZ Matrices"."""
    white, *colours = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in primaries]
    columns = np.stack(colours, axis=1)
    matrix = columns * np.linalg.solve(columns, white)
    cones = BRADFORD @ D50 / (BRADFORD @ white)
    adapted: NDArray[np.float64] = np.linalg.inv(BRADFORD) @ np.diag(cones) @ BRADFORD @ matrix
    return adapted


def _fixed(numbers: tuple[float, ...] | NDArray[np.float64]) -> bytes:
    """s15Fixed16Number."""
    return struct.pack(f">{len(numbers)}i", *(round(each * 65536) for each in numbers))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _file(tags: dict[bytes, bytes]) -> bytes:
    """ICC.1:2022, 7.2 and 7.3: header, tag table, tags."""
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, offset + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", offset + len(body), 0x04300000, b"mntr", b"RGB ",
                       b"XYZ ", b"acsp")  # fmt: skip
    return (head + bytes(68 - len(head)) + _fixed(D50)).ljust(128, b"\0") + table + body
