"""Input pictures that cameras, programs and people who mean no good make."""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAAB8AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABo"
    "dmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEA"
    "GEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAA"
    "AwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAADAAAAAB"
    "AAAAIAAAAAH////wAAAAAv///+AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAACdt"
    "ZGF0AAAAGygBrwY4iS58L/CNf9f/C0///8f+TM1MJzjPwA=="
)
"""48 x 32, of the colour (10, 120, 200). Nothing that is installed here writes HEIC."""


def field_file(name: str) -> bytes:
    """One that the product was tried with. They lie beside the repository, but not everywhere."""
    path = Path(__file__).parents[2] / "shared" / "data" / "field" / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path.read_bytes()


def encoded(image: Image.Image, picture_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, picture_format, **options)
    return buffer.getvalue()


def turned() -> bytes:
    """A camera's picture, on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.linear_gradient("L").resize((40, 64)), "JPEG", exif=exif)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG file."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG file with chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def png_of(width: int, height: int) -> bytes:
    """One row of it, that is; the rest is claimed."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    row = zlib.compress(bytes(1 + (width + 7) // 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def webp_of(width: int, height: int) -> bytes:
    """In its header."""
    small = bytearray(encoded(GREY, "WEBP", lossless=True))
    at = small.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", small, at)
    struct.pack_into("<I", small, at, (bits >> 28 << 28) | (height - 1) << 14 | (width - 1))
    return bytes(small)


def jpeg_of(width: int, height: int, scans: int = 0) -> bytes:
    """A progressive JPEG that claims a size; `scans` of its last scan, without data, follow."""
    small = bytearray(encoded(GREY.convert("RGB"), "JPEG", progressive=True))
    struct.pack_into(">HH", small, small.index(b"\xff\xc2") + 5, height, width)
    last = small.rindex(b"\xff\xda")
    scan = small[last : last + 2 + int.from_bytes(small[last + 2 : last + 4])]
    return bytes(small[:-2]) + bytes(scan) * scans + b"\xff\xd9"


GREY = Image.linear_gradient("L").resize((64, 64))
MANY = [GREY.rotate(angle).convert("RGB") for angle in (0, 90, 180)]
READABLE = {
    "one pixel": encoded(Image.new("RGB", (1, 1)), "PNG"),
    "a line": encoded(Image.new("1", (1, 60_000)), "PNG"),
    "CMYK": encoded(GREY.convert("CMYK"), "JPEG"),
    "16 bits": encoded(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)), "PNG"),
    "a palette with transparency": encoded(GREY.convert("P"), "PNG", transparency=0),
    "turned": turned(),
    "animated PNG": encoded(MANY[0], "PNG", save_all=True, append_images=MANY[1:]),
    "animated WebP": encoded(MANY[0], "WEBP", save_all=True, append_images=MANY[1:]),
    "AVIF": encoded(MANY[0], "AVIF"),
    "HEIC": HEIC,
    "animated AVIF": encoded(MANY[0], "AVIF", save_all=True, append_images=MANY[1:]),
}
TOO_LARGE = {
    "50,000 by 50,000": png_of(50_000, 50_000),
    "WebP of 268 million pixels": webp_of(16_383, 16_383),
    "JPEG of 132 million pixels": jpeg_of(16_000, 8_250),
}
TOO_MANY_SCANS = {"150 empty scans": jpeg_of(8192, 8192, 150)}
CUT_OFF = {
    f"half a {picture_format}": whole[: len(whole) // 2]
    for picture_format in ("JPEG", "PNG", "WEBP", "AVIF")
    for whole in [encoded(Image.effect_noise((64, 64), 80).convert("RGB"), picture_format)]
} | {"truncated JPEG": encoded(GREY, "JPEG")[:-40], "truncated PNG": encoded(GREY, "PNG")[:60]}
NOT_TAKEN = {
    "a GIF": encoded(MANY[0], "GIF", save_all=True, append_images=MANY[1:]),
    "a TIFF": encoded(GREY, "TIFF"),
    "a BMP": encoded(GREY, "BMP"),
    "an ICO": encoded(GREY, "ICO"),
    "a JPEG 2000": encoded(GREY, "JPEG2000"),
    "a PDF": encoded(GREY, "PDF"),
    "a PostScript file": encoded(GREY, "EPS"),
    "a Netpbm picture": encoded(GREY, "PPM"),
    "a QOI": encoded(MANY[0], "QOI"),
    "an ICNS": encoded(MANY[0], "ICNS"),
    "a DDS": encoded(MANY[0], "DDS"),
    "a Photoshop file": b"8BPS\0\1" + bytes(20),
    "a JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20),
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a web page": b"<!DOCTYPE html><html></html>",
    "a video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(20),
}
REFUSED = TOO_LARGE | TOO_MANY_SCANS | CUT_OFF | NOT_TAKEN | {"nothing": b"", "text": b"hello"}
