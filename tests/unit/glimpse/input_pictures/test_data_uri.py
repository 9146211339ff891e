"""`glimpse.input_pictures.data_uri`: RFC 2397, as browsers read it."""

import base64
import random
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse.errors import InvalidRequest
from glimpse.input_pictures.data_uri import decoded

DATA = b"\xfb\xef\xff\x00 %41#\n!"
TEXT = base64.b64encode(DATA).decode()


def read(url: object, max_bytes: int = 1000) -> bytes:
    return decoded(url, "image_url", max_bytes)


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{TEXT}",
        f"DATA:IMAGE/PNG;BASE64,{TEXT}",
        f"data:;base64,{TEXT}",
        f"data:application/octet-stream;base64,{TEXT}",
        f"data:text/html;charset=utf-8;base64,{TEXT}",
        f'data:image/png;name="a.png";base64,{TEXT}',
        f"data:image/png; base64 ,{TEXT}",
        f" \n\tdata:image/png;base64,{TEXT} \n",
        f"data:image/png;base64,{TEXT[:5]}\r\n {TEXT[5:]}",
        f"data:image/png;base64,{TEXT.rstrip('=')}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(DATA).decode()}",
        f"data:image/png;base64,{quote_from_bytes(TEXT.encode(), safe='')}",
        f"data:image/png;base64,{TEXT}#fragment",
        f"data:image/png,{quote_from_bytes(DATA)}",
        f"data:,{quote_from_bytes(DATA, safe='')}",
        f"data:image/png;base64;name=x,{quote_from_bytes(DATA)}",  # base64 only counts at the end
    ],
)
def test_every_form_means_the_same_bytes(url: str) -> None:
    assert read(url) == DATA


@pytest.mark.parametrize("ending", ["", "\n", "-", "="])
def test_what_has_to_be_cleaned_may_begin_anywhere(ending: str) -> None:
    data = random.Random(ending).randbytes(400_000) + b"\xfb\xef\xfe"
    text = base64.b64encode(data).decode()
    if ending == "-":
        text = text[:-4] + text[-4:].replace("+", "-").replace("/", "_")
    elif ending == "=":
        data, text = data[:-1], base64.b64encode(data[:-1]).decode()
    else:
        text = text[:-3] + ending + text[-3:]
    assert read(f"data:;base64,{text}", 10**6) == data


def test_a_long_text_with_escapes_is_refused() -> None:
    """They take long to decode."""
    assert len(read("data:," + "%41" * 1_398_101, 2 * 10**6)) == 1_398_101
    with pytest.raises(InvalidRequest, match="send base64 without escapes"):
        read("data:," + "%41" * 1_398_102, 2 * 10**6)


def test_no_more_is_decoded_than_a_picture_may_have() -> None:
    with pytest.raises(InvalidRequest, match="larger than 1000 bytes"):
        read("data:;base64," + "A" * 10**6 + "*")  # which would be broken


def test_a_large_one_is_decoded_in_pieces() -> None:
    for size in (2**16 * 3 - 1, 2**16 * 3, 2**16 * 3 + 1, 10**6):
        data = random.Random(size).randbytes(size)
        text = base64.b64encode(data).decode()
        assert read(f"data:;base64,{text}", 10**6) == data
    for broken in ("AA==" * 2**17, text[:-3], text[: 2**18] + "=" + text[2**18 :]):
        with pytest.raises(InvalidRequest, match="is broken"):
            read(f"data:;base64,{broken}", 10**6)


@given(st.binary(max_size=300))
def test_any_bytes_come_through_escaped(data: bytes) -> None:
    assert read(f"data:,{quote_from_bytes(data, safe='')}") == data
    assert read(f"data:,{quote_from_bytes(data)}") == data


@pytest.mark.parametrize("text", ["%", "%4", "%zz", "%%41", "a%4", "%41%"])
def test_what_is_no_escape_stands_for_itself(text: str) -> None:
    assert read(f"data:,{text}") == text.replace("%41", "A").encode()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "must be a data URI"),
        (7, "must be a data URI"),
        (b"data:,x", "must be a data URI"),
        ("", "must be a data URI"),
        ("https://example.com/a.png", "must be a data URI"),
        ("blob:https://example.com/1", "must be a data URI"),
        ("data:image/png;base64", "must be a data URI"),
        ("data:image/png;base64,A", "is broken"),
        ("data:image/png;base64,AAA=A", "is broken"),
        ("data:image/png;base64,AA===", "is broken"),
        ("data:image/png;base64,A*==", "is broken"),
        ("data:image/png;base64,\xe9", "not ASCII"),
        ("data:image/png;base64," + "A" * 1400, "larger than 1000 bytes"),
        ("data:," + "x" * 1001, "larger than 1000 bytes"),
    ],
)
def test_what_is_wrong_is_said_about_the_field(url: object, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'image_url'.*{reason}"):
        read(url)
