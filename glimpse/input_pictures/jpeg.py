"""What the markers of a JPEG file say, without decoding: ITU-T T.81, annex B."""

import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.input_pictures.broken import CutOff, Damaged

FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # SOF0 to SOF15
# Baseline, extended and progressive, by Huffman or arithmetic coding. The others are lossless or
# hierarchical.
READABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
EOI, SOS, ALONE = 0xD9, 0xDA, frozenset({0x01, *range(0xD0, 0xD9)})
MARKER = re.compile(rb"\xff[^\x00\xff]")  # behind any number of fill bytes, which are 0xFF too
MAX_SEGMENTS = 4096  # a camera's file has dozens, or some hundred with a large profile or preview
MAX_JUNK = 2**16  # bytes between segments, which readers skip one by one
# Of quantization tables, and of what Photoshop adds: Pillow reads both in Python.
MAX_BYTES_OF = {0xDB: 2**16, 0xED: 2**21}
PIECE = 2**18  # bytes that are searched at a time: what is made of them stays in the cache


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """`samples`: of all components, after subsampling. `scanned`: those that each scan goes
    through, added up. More than one scan keeps every sample in memory until the end."""

    width: int
    height: int
    samples: int
    scans: int
    scanned: int


def read_header(data: bytes) -> JpegHeader:
    """Raises `CutOff` or `Damaged`."""
    frame: dict[int, int] | None = None
    width = height = scans = scanned = junk = 0
    at = 2
    ends = _ends_of_scans(data)
    left = dict(MAX_BYTES_OF)
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, at, at + MAX_JUNK + 2)
        junk += (len(data) if found is None else found.start()) - at
        if junk > MAX_JUNK:
            raise Damaged("has too much between its segments")
        if found is None:
            raise CutOff
        kind, at = found[0][1], found.end()
        if kind == EOI:
            break
        if kind in ALONE:
            continue
        if at + 2 > len(data):
            raise CutOff
        length = int.from_bytes(data[at : at + 2])
        segment, at = data[at + 2 : at + length], at + length
        if at > len(data):
            raise CutOff
        if kind in left:
            left[kind] -= length
            if left[kind] < 0:
                raise Damaged("has too much beside its pixels; save it anew")
        try:
            if kind in FRAMES:
                if kind not in READABLE_FRAMES:
                    raise Damaged("is a lossless or hierarchical JPEG; send a usual one")
                if frame is None:
                    width, height, frame = _frame(segment)
            elif kind == SOS:
                scans += 1
                scanned += sum((frame or {}).get(name, 0) for name in segment[1::2][: segment[0]])
                following = ends.searchsorted(np.int32(at))  # another type would copy them all
                if following == len(ends):
                    raise CutOff
                at = int(ends[following])
        except (IndexError, struct.error, ZeroDivisionError):
            raise Damaged from None
    else:
        raise Damaged("has too many segments")
    if frame is None or not scans or not width or not height:
        raise Damaged
    return JpegHeader(width, height, sum(frame.values()), scans, scanned)


def _ends_of_scans(data: bytes) -> NDArray[np.int32]:
    """Where the data of a scan would end: at any marker but those of restarts. A regular expression
    takes several times as long."""
    found = [np.empty(0, np.int32)]
    for start in range(0, len(data), PIECE):
        piece = np.frombuffer(data[start : start + PIECE + 1], np.uint8)
        first, second = piece[:-1], piece[1:]
        ends = (first == 0xFF) & (second != 0) & (second != 0xFF) & (second & 0xF8 != 0xD0)
        found.append((np.flatnonzero(ends) + start).astype(np.int32))
    return np.concatenate(found)


def _frame(segment: bytes) -> tuple[int, int, dict[int, int]]:
    """Width, height, and the samples of each component by its id."""
    bits, height, width, count = struct.unpack_from(">BHHB", segment)
    if bits != 8:
        raise Damaged(f"has {bits} bits a sample; send a JPEG with 8")
    components = [segment[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    sampling = {each[0]: (each[1] >> 4) * (each[1] & 15) for each in components}
    horizontal = max(each[1] >> 4 for each in components)
    vertical = max(each[1] & 15 for each in components)
    largest = horizontal * vertical
    return width, height, {k: width * height * v // largest for k, v in sampling.items()}
