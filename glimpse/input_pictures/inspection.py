"""A look at an encoded picture before it is read: format, size, and what reading would cost.

It runs before admission, so it takes milliseconds whatever the file says; no pixel is decoded.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from glimpse.errors import InvalidRequest, invalid
from glimpse.input_pictures import boxes, heif, icc, jpeg, png
from glimpse.input_pictures.broken import CutOff, Damaged, TooCostly, Unreadable
from glimpse.input_pictures.formats import format_of

MAX_JPEG_PIXELS = 100 * 2**20
"""A JPEG of one scan is read at a fraction of its size (`draft`), in memory of that fraction."""
# Pillow warns and refuses by a limit of its own; ours are checked before it sees a file.
Image.MAX_IMAGE_PIXELS = None
MAX_SCANNED_SAMPLES = 2**30
"""Of a JPEG with several scans, in all of them: about a second. 50 megapixels as cameras and
libjpeg write them, in ten scans, have two thirds of it."""
MAX_KEPT_SAMPLES = 160 * 2**20
"""Of a JPEG with several scans, which keeps each as two bytes until the last one has come."""

ORIENTATION, SHORT = 0x0112, 3  # of Exif: how to turn the picture upright, and the type of that
LYING = frozenset({5, 6, 7, 8})  # orientations that swap width and height

# What Pillow and its libraries raise for broken files, as damaging them at random has shown.
PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError,
    RuntimeError, struct.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class InputPicture:
    """An encoded picture that was looked at and can be read, if it is sound.

    `field` is the client's name for it. `width` and `height` are those of the picture turned
    upright, `stored_size` is before that, by Exif's `orientation`. `may_be_transparent`: the file
    has an alpha channel or a transparent colour. `hdr`: its colours are those of PQ or HLG.
    `animated`: it has several pictures, one after the other.
    """

    data: bytes
    field: str
    format: str
    stored_size: tuple[int, int]
    orientation: int
    may_be_transparent: bool
    hdr: bool = False
    animated: bool = False

    @property
    def warnings(self) -> Iterator[str]:
        """What a reader here makes less of than a viewer would."""
        if self.hdr:
            yield f"{self.field} has HDR colours, which are read as if they were sRGB."
        if self.animated:
            yield f"{self.field} is an animation, of which the first picture is read."

    @property
    def width(self) -> int:
        return self.stored_size[self.orientation in LYING]

    @property
    def height(self) -> int:
        return self.stored_size[self.orientation not in LYING]

    @property
    def pixels(self) -> int:
        return self.width * self.height


def inspect(data: bytes, field: str, max_pixels: int) -> InputPicture:
    """Raises `InvalidRequest` about a field for a file that cannot be read, or that would cost too
    much; `max_pixels` is for all formats but JPEG."""
    try:
        return _inspect(data, field, max_pixels)
    except Unreadable as why:
        raise invalid(field, str(why)) from None


def unreadable(field: str, failure: Exception) -> InvalidRequest:
    """What to tell of an exception that Pillow has raised."""
    words = str(failure).lower()
    cut = any(each in words for each in ("truncated", "unexpected end", "end of file"))
    return invalid(field, str(CutOff() if cut else Damaged()))


def _inspect(data: bytes, field: str, max_pixels: int) -> InputPicture:
    kind = format_of(data)
    match kind:
        case "JPEG":
            header = jpeg.read_header(data)
            _check_jpeg(header)
            size = header.width, header.height
        case "PNG":
            chunks = png.read_header(data)
            size = chunks.width, chunks.height
            _check_pixels(size, max_pixels)
            exif = chunks.meaning.get(b"eXIf")
            transparent = chunks.colour_type in (4, 6) or b"tRNS" in data
            hdr = int.from_bytes(chunks.meaning.get(b"cICP", b"")[1:2]) in icc.HDR_CURVES
            turn, animated = _orientation(exif), chunks.animated
            return InputPicture(data, field, kind, size, turn, transparent, hdr, animated)
        case "WEBP":
            size = _webp_size(data)
            _check_pixels(size, max_pixels)
        case "AVIF" | "HEIF":
            boxes.check(data)
            heif.register()
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if kind in ("AVIF", "HEIF"):
                size = image.size
                _check_pixels(size, max_pixels)
            # Browsers turn no WebP.
            exif = image.info.get("exif") if kind != "WEBP" else None
            transparent = image.has_transparency_data
            # Other pictures of a JPEG or a HEIC are thumbnails, depths and the like.
            animated = kind in ("WEBP", "AVIF") and getattr(image, "is_animated", False)
    except PILLOW_ERRORS:
        raise Damaged from None
    if image.size != size:
        raise Damaged
    hdr = kind in ("AVIF", "HEIF") and boxes.colours(data)[1] in icc.HDR_CURVES
    return InputPicture(data, field, kind, size, _orientation(exif), transparent, hdr, animated)


def _check_jpeg(header: jpeg.JpegHeader) -> None:
    if header.width * header.height > MAX_JPEG_PIXELS:
        raise TooCostly(f"has more than {MAX_JPEG_PIXELS} pixels; send a smaller picture")
    several = header.scans > 1
    if several and header.samples > MAX_KEPT_SAMPLES or header.scanned > MAX_SCANNED_SAMPLES:
        raise TooCostly(
            f"is a JPEG of {header.scans} scans and too large for so many; send a smaller "
            "picture, or a baseline JPEG"
        )


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise TooCostly(
            f"has more than {max_pixels} pixels; send a smaller picture, or a JPEG, which may have "
            f"{MAX_JPEG_PIXELS}"
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Of the canvas: https://developers.google.com/speed/webp/docs/riff_container."""
    if int.from_bytes(data[4:8], "little") + 8 > len(data) or len(data) < 30:
        raise CutOff
    match data[12:16]:
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L" if data[20] == 0x2F:
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            width, height = data[24:27], data[27:30]
            return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
        case _:
            raise Damaged


def _orientation(exif: bytes | None) -> int:
    """1 (upright) where the Exif data say nothing, or nothing that can be understood.

    Exif 3.0, 4.6: a TIFF header, then the entries of the first directory.
    """
    data = (exif or b"").removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", data, at)
            if (tag, kind, count) == (ORIENTATION, SHORT, 1):
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
