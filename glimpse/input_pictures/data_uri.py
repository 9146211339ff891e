"""Data URIs (RFC 2397), as lenient as a browser: https://fetch.spec.whatwg.org/#data-urls."""

import base64
import binascii
import re

import numpy as np

from glimpse.errors import invalid

URI = re.compile(r"[\x00-\x20]{0,64}data:(?P<type>[^,]{0,1024}),(?P<data>[^#]*)", re.IGNORECASE)
BASE64 = re.compile(r";[ \t\n\f\r]*base64[ \t\n\f\r]*$", re.IGNORECASE)
PIECE = 2**18  # characters, a multiple of four
WHITE_SPACE = b" \t\n\f\r"
URL_SAFE = bytes.maketrans(b"-_", b"+/")
HEX = np.full(256, 255, np.uint8)
for _digit in "0123456789abcdefABCDEF":
    HEX[ord(_digit)] = int(_digit, 16)


def decoded(url: object, field: str, max_bytes: int) -> bytes:
    """The bytes in a data URI of any media type. Raises `InvalidRequest` about a field."""
    found = URI.match(url) if isinstance(url, str) else None
    if found is None:
        raise invalid(field, "must be a data URI: data:image/png;base64,…")
    try:
        data = found["data"].encode("ascii")
    except UnicodeEncodeError:
        raise invalid(field, "the data URI has characters that are not ASCII") from None
    if b"%" in data:
        data = _percent_decoded(data)
    data = _base64_decoded(data, field) if BASE64.search(found["type"]) else data
    check_bytes(data, field, max_bytes)
    return data


def check_bytes(data: bytes, field: str, max_bytes: int) -> None:
    """Raises `InvalidRequest` for more bytes than one picture may have."""
    if len(data) > max_bytes:
        raise invalid(field, f"the picture is larger than {max_bytes} bytes; send a smaller one")


def _base64_decoded(data: bytes, field: str) -> bytes:
    """The alphabet of URLs is taken as well, and white space; padding may be missing."""
    try:
        return _strictly_decoded(data)
    except binascii.Error:
        pass  # few have to be cleaned first, which takes as long as decoding
    try:
        return _strictly_decoded(data.translate(URL_SAFE, WHITE_SPACE))
    except binascii.Error:
        raise invalid(field, "the base64 of the data URI is broken") from None


def _strictly_decoded(data: bytes) -> bytes:
    """In pieces: decoding holds the interpreter's lock, which a large text at once would keep for
    long. Raises `binascii.Error`."""
    if len(data) % 4 == 0 and data.endswith(b"="):
        data = data.removesuffix(b"=").removesuffix(b"=")
    if b"=" in data:
        raise binascii.Error  # or a piece could end with what only the last may have
    data += b"=" * (-len(data) % 4)
    starts = range(0, len(data), PIECE)
    return b"".join(base64.b64decode(data[at : at + PIECE], validate=True) for at in starts)


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
