"""`glimpse.protocols.form`: parts of multipart forms, from bytes that may be anything."""

import random

import pytest

from glimpse.errors import InvalidRequest
from glimpse.protocols.form import MAX_PARTS, FormParser, Part

KIND = "multipart/form-data; boundary=b"
END = b"--b--\r\n"


def part(name: str, content: bytes, *, file: bool = False) -> bytes:
    kind = b'; filename="f"' if file else b""
    head = b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n' % (name.encode(), kind)
    return head + content + b"\r\n"


WHOLE = part("prompt", "\u00e9".encode()) + part("image", bytes(range(256)), file=True) + END


def parts(body: bytes, kind: str = KIND, size: int = 2**20) -> list[Part]:
    parser = FormParser(kind)
    for start in range(0, len(body), size):
        parser.feed(body[start : start + size])
    return parser.parts()


@pytest.mark.parametrize("size", [1, 2, 7, 2**20])
def test_a_form_in_pieces_of_any_size(size: int) -> None:
    assert parts(WHOLE, size=size) == [("prompt", "\u00e9"), ("image", bytes(range(256)))]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (END, []),
        (part("a", b"") + END, [("a", "")]),
        (part("a", b"", file=True) + END, [("a", b"")]),
        (part("a", b"1") + part("a", b"2") + END, [("a", "1"), ("a", "2")]),
        (part("a[]", b"\r\n--c\r\n") + END, [("a[]", "\r\n--c\r\n")]),
        (part("a", b"1") * MAX_PARTS + END, [("a", "1")] * MAX_PARTS),
        (
            b'--b\r\nX-Other: 1\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' + END,
            [("a", "1")],
        ),
    ],
)
def test_forms_of_every_kind(body: bytes, expected: list[Part]) -> None:
    assert parts(body) == expected


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (WHOLE, "multipart/form-data"),
        (WHOLE, "multipart/form-data; boundary="),
        (WHOLE, "multipart/form-data; boundary=other"),
        (WHOLE, "multipart/form-data; boundary=" + "b" * 1000),
        (b"", KIND),
        (b"prompt=x", KIND),
        (WHOLE.removesuffix(END), KIND),
        (WHOLE[:60], KIND),
        (b"--b\r\n\r\nnameless\r\n" + END, KIND),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, KIND),
        (b"--b\r\n: x\r\n\r\nx\r\n" + END, KIND),
        (part("prompt", b"\xff") + END, KIND),
        (part("n", b"1") * (MAX_PARTS + 1) + END, KIND),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a valid form"):
        parts(body, kind)


def test_a_damaged_form_is_read_or_refused_and_nothing_else() -> None:
    chance = random.Random(7)
    read = 0
    for _ in range(2000):
        body = bytearray(WHOLE)
        for _ in range(chance.randrange(1, 6)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            read += len(parts(bytes(body), size=chance.choice([1, 50, 1000]))) == 2
        except InvalidRequest:
            pass
    assert 100 < read < 1900
