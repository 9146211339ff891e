"""The chunks of a PNG file, without decoding: https://www.w3.org/TR/png-3/#5DataRep."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from glimpse.input_pictures.broken import CutOff, Damaged

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 2**15  # some programs write one every 8 KiB, or every 4
# Chunks that tell how the pixels are meant. Any other one that a reader may skip is skipped.
MEANING = frozenset({b"acTL", b"cHRM", b"cICP", b"eXIf", b"gAMA", b"iCCP", b"sRGB"})
PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
CHECKED = MEANING | {b"IHDR", b"tRNS"}
MAX_PROFILE_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class PngHeader:
    width: int
    height: int
    bits: int
    colour_type: int
    meaning: dict[bytes, bytes] = field(default_factory=dict)
    """The first sound chunk of each kind in `MEANING`, of those before the pixels."""

    @property
    def animated(self) -> bool:
        return int.from_bytes(self.meaning.get(b"acTL", b"")[:4]) > 1

    @property
    def profile(self) -> bytes | None:
        """The ICC profile in `iCCP`; a broken one is none."""
        _, _, packed = self.meaning.get(b"iCCP", b"").partition(b"\0")
        if packed[:1] != b"\0":
            return None
        unpack = zlib.decompressobj()
        try:
            profile = unpack.decompress(packed[1:], MAX_PROFILE_BYTES)
        except zlib.error:
            return None
        return profile if unpack.eof else None


def read_header(data: bytes) -> PngHeader:
    """Raises `CutOff` or `Damaged`."""
    header = None
    meaning: dict[bytes, bytes] = {}
    pixels_begun = False
    for kind, body, sound in _chunks(data):
        if header is None:
            if kind != b"IHDR" or len(body) < 10 or not sound:
                raise Damaged
            header = struct.unpack_from(">IIBB", body)
            if not header[0] or not header[1]:
                raise Damaged
        pixels_begun = pixels_begun or kind == b"IDAT"
        if kind in MEANING and sound and not pixels_begun:
            meaning.setdefault(kind, bytes(body))
        if kind == b"IEND":
            break
    if header is None or not pixels_begun:
        raise CutOff
    width, height, bits, colour_type = header
    return PngHeader(width, height, bits, colour_type, meaning)


def pixels_alone(data: bytes) -> bytes:
    """The file without the chunks that a reader may skip: damage in them is none of the picture,
    and what they unfold to costs time. The first picture of an animation remains."""
    parts = [SIGNATURE]
    at = len(SIGNATURE)
    for kind, body, sound in _chunks(data):
        end = at + 12 + len(body)
        short = len(body) < {0: 2, 2: 6}.get(data[25], 1)  # by the colour type in the header
        if kind in PIXELS and not (kind == b"tRNS" and (short or not sound)):
            parts.append(data[at:end])
        at = end
        if kind == b"IEND":
            break
    return b"".join(parts)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Kind, body, and whether the checksum is right; of `IDAT` the decoder finds that out.

    Raises `CutOff` where the file ends in a chunk, and `Damaged` for more chunks than any has.
    """
    view = memoryview(data)
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if at == len(data):
            return
        if at + 12 > len(data):
            raise CutOff
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise CutOff
        sound = kind not in CHECKED or (
            zlib.crc32(view[at + 4 : end]) == int.from_bytes(data[end : end + 4])
        )
        yield kind, view[at + 8 : end], sound
        at = end + 4
    raise Damaged("has too many chunks")
