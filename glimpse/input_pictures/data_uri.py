"""Data URIs (RFC 2397), as lenient as a browser: https://fetch.spec.whatwg.org/#data-urls."""

import binascii
import re
from collections.abc import Iterator

import numpy as np

from glimpse.errors import invalid

HEAD = re.compile(r"[\x00-\x20]{0,64}data:(?P<type>[^,]{0,1024}),", re.IGNORECASE)
BASE64 = re.compile(r";[ \t\n\f\r]*base64[ \t\n\f\r]*$", re.IGNORECASE)
PIECE = 2**18  # characters, a multiple of four
WHITE_SPACE = b" \t\n\f\r"
MAX_ESCAPED = 4 * 2**20
"""Characters of a text with escapes, which take ten times as long to decode as others."""
URL_SAFE = bytes.maketrans(b"-_", b"+/")
HEX = np.full(256, 255, np.uint8)
for _digit in "0123456789abcdefABCDEF":
    HEX[ord(_digit)] = int(_digit, 16)


def decoded(url: object, field: str, max_bytes: int) -> bytes:
    """The bytes in a data URI of any media type. Raises `InvalidRequest` about a field."""
    head = HEAD.match(url) if isinstance(url, str) else None
    if head is None or not isinstance(url, str):
        raise invalid(field, "must be a data URI: data:image/png;base64,…")
    end = url.find("#", head.end())
    try:
        data = url[head.end() : len(url) if end < 0 else end].encode("ascii")
    except UnicodeEncodeError:
        raise invalid(field, "the data URI has characters that are not ASCII") from None
    if b"%" in data:
        if len(data) > MAX_ESCAPED:
            raise invalid(
                field,
                f"the data URI has percent escapes and more than {MAX_ESCAPED} characters; send "
                "base64 without escapes",
            )
        data = _percent_decoded(data)
    if BASE64.search(head["type"]):
        try:
            return b"".join(_base64_decoded(data, field, max_bytes))
        except binascii.Error:
            raise invalid(field, "the base64 of the data URI is broken") from None
    check_bytes(len(data), field, max_bytes)
    return data


def check_bytes(size: int, field: str, max_bytes: int) -> None:
    """Raises `InvalidRequest` for more bytes than one picture may have."""
    if size > max_bytes:
        raise invalid(field, f"the picture is larger than {max_bytes} bytes; send a smaller one")


def _base64_decoded(data: bytes, field: str, max_bytes: int) -> Iterator[bytes]:
    """The alphabet of URLs is taken as well, and white space; padding may be missing.

    In pieces, because decoding holds the interpreter's lock. Raises `binascii.Error`.
    """
    at = size = 0
    cleaned = False
    while at < len(data):
        try:
            piece = _strictly_decoded(data[at : at + PIECE], last=at + PIECE >= len(data))
        except binascii.Error:
            if cleaned:
                raise
            # Few have to be cleaned.
            data, at, cleaned = data[at:].translate(URL_SAFE, WHITE_SPACE), 0, True
            continue
        at += PIECE
        size += len(piece)
        check_bytes(size, field, max_bytes)
        yield piece


def _strictly_decoded(text: bytes, last: bool) -> bytes:
    if last and b"=" not in text:
        text += b"=" * (-len(text) % 4)
    elif not last and b"=" in text:
        raise binascii.Error("padding in the middle")
    return binascii.a2b_base64(text, strict_mode=True)


def _percent_decoded(data: bytes) -> bytes:
    """`%41` becomes a byte, anything else stands for itself. Vectorised, because megabytes of
    escapes take seconds in `urllib`."""
    text = np.frombuffer(data, np.uint8)
    at = np.flatnonzero(text[:-2] == ord("%"))
    high, low = HEX[text[at + 1]], HEX[text[at + 2]]
    valid = (high < 16) & (low < 16)
    at, high, low = at[valid], high[valid], low[valid]
    decoded_text, kept = text.copy(), np.ones(len(text), bool)
    decoded_text[at] = high << 4 | low
    kept[at + 1] = kept[at + 2] = False
    return decoded_text[kept].tobytes()
