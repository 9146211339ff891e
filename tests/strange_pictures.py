"""Input pictures that cameras, programs and people who mean no good make."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, picture_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, picture_format, **options)
    return buffer.getvalue()


def turned() -> bytes:
    """A camera's picture, on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.linear_gradient("L").resize((40, 64)), "JPEG", exif=exif)


def png_of(width: int, height: int) -> bytes:
    """One row of it, that is; the rest is claimed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

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
}
TOO_LARGE = {
    "50,000 by 50,000": png_of(50_000, 50_000),
    "WebP of 268 million pixels": webp_of(16_383, 16_383),
}
REFUSED = TOO_LARGE | {
    "truncated JPEG": encoded(GREY, "JPEG")[:-40],
    "truncated PNG": encoded(GREY, "PNG")[:60],
    "animated GIF": encoded(MANY[0], "GIF", save_all=True, append_images=MANY[1:]),
    "nothing": b"",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}
