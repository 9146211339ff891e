"""The boxes of AVIF and HEIC files: ISO/IEC 14496-12, and 23008-12 for what they mean."""

from collections.abc import Iterator

from glimpse.input_pictures import icc
from glimpse.input_pictures.broken import CutOff, Damaged, TooCostly, Unreadable

MAX_BOXES = 4096
CONTAINERS = frozenset({b"meta", b"iprp", b"moov", b"trak", b"mdia", b"minf", b"stbl"})
# Boxes in them that are no tables: pixels, and properties such as a profile.
PAYLOADS = frozenset({b"idat", b"ipco", b"stsd", b"free", b"skip", b"uuid"})
MAX_TABLE_BYTES = 2**15
"""Of items, samples and so on, together: libavif takes time with the square of their number. A
phone's HEIC of 16 megapixels, in 64 tiles, has 4 KiB."""
# Where the colours of pictures are described.
PATH = (b"meta", b"iprp", b"ipco")


def check(data: bytes) -> None:
    """Raises `TooCostly` where the file has too many items, and `CutOff` where it ends in one of
    its outermost boxes, up to those that have the picture; some programs leave bytes behind them.
    """
    if _table_bytes(data) > MAX_TABLE_BYTES:
        raise TooCostly("has too many items; send the picture alone, or in another format")
    missing = {b"meta", b"mdat"}
    for kind, _, _ in _boxes(data, 0, len(data)):
        missing.discard(kind)
        if not missing:
            return


def _table_bytes(data: bytes) -> int:
    total = boxes_seen = 0
    containers = [(0, len(data))]
    for start, end in containers:  # which grow meanwhile
        try:
            for kind, body, stop in _boxes(data, start, end):
                boxes_seen += 1
                if boxes_seen > MAX_BOXES:
                    raise TooCostly("has too many boxes; send the picture alone")
                if kind in CONTAINERS:
                    containers.append((body + (4 if kind == b"meta" else 0), stop))
                elif start and kind not in PAYLOADS:
                    total += stop - body
        except (CutOff, Damaged):
            pass  # what follows may be read all the same
    return total


def colours(data: bytes) -> tuple[int, int]:
    """Primaries and transfer function by their numbers in ITU-T H.273 (`nclx`), 2 and 2 where the
    file names none."""
    start, end = 0, len(data)
    try:
        for wanted in PATH:
            start, end = next(
                (body, stop) for kind, body, stop in _boxes(data, start, end) if kind == wanted
            )
            start += 4 if wanted == b"meta" else 0  # version and flags
        for kind, body, _ in _boxes(data, start, end):
            if kind == b"colr" and data[body : body + 4] == b"nclx":
                primaries, curve = data[body + 4 : body + 6], data[body + 6 : body + 8]
                return int.from_bytes(primaries), int.from_bytes(curve)
    except (StopIteration, Unreadable):
        pass
    return icc.UNSPECIFIED, icc.UNSPECIFIED


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where the body begins and ends."""
    for _ in range(MAX_BOXES):
        if at == end:
            return
        if at + 8 > end:
            raise CutOff
        size, head = int.from_bytes(data[at : at + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16]), 16
        if size == 0:  # up to the end
            size = end - at
        if size < head:
            raise Damaged
        if at + size > end:
            raise CutOff
        yield data[at + 4 : at + 8], at + head, at + size
        at += size
    raise Damaged
