"""Multipart forms: bytes to parts.

Starlette's own parser takes a form that ends early for whole, and leaves its files open.
"""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from glimpse.errors import InvalidRequest

CONTENT_TYPE = "multipart/form-data"
MAX_PARTS = 32

Part = tuple[str, str | bytes]
"""The name of a part, and what is in it: of a file bytes, of any other its text."""


class FormParser:
    """Takes a form's bytes, in pieces of any size, after its content type.

    Everything raises `InvalidRequest` for what is not a form, or has more than `MAX_PARTS` parts.
    """

    def __init__(self, content_type: str) -> None:
        self._parts: list[Part] = []
        self._complete = False
        self._disposition: bytes | None = None
        self._header = bytearray()
        self._value = bytearray()
        self._content = bytearray()
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise _no_form()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_header,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_part_data": self._add_content,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )
        except FormParserError:
            raise _no_form() from None

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError:
            raise _no_form() from None

    def parts(self) -> list[Part]:
        """All of them, in their order, once the last piece has been fed."""
        if not self._complete:
            raise _no_form()
        return self._parts

    def _begin(self) -> None:
        if len(self._parts) == MAX_PARTS:
            raise _no_form()
        self._disposition = None
        self._content = bytearray()

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _end(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"name" not in options:
            raise _no_form()
        name = options[b"name"].decode("utf-8", "replace")
        content = bytes(self._content)
        try:
            self._parts.append((name, content if b"filename" in options else content.decode()))
        except UnicodeDecodeError:
            raise _no_form() from None

    def _finish(self) -> None:
        self._complete = True


def _no_form() -> InvalidRequest:
    message = f"is not a valid form, in UTF-8 and of at most {MAX_PARTS} parts"
    return InvalidRequest([{"loc": ["body"], "msg": message, "type": "form_invalid"}])
