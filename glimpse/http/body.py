"""A request's body, JSON or a form, read with care."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NoReturn

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from glimpse.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

MAX_PARTS = 32  # files, and texts, of a form
MAX_TEXT_BYTES = 64 * 2**10  # of one text of a form


async def read_json_object(request: Request, max_bytes: int) -> dict[str, Any]:
    """The fields of a JSON object. Raises `UnsupportedMediaType`; `BodyTooLarge` as soon as the
    limit is passed, the rest unread; `InvalidRequest` for what is not a JSON object.
    """
    kind = _content_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType("Send JSON, with the header content-type: application/json.")
    try:
        body = b"".join([chunk async for chunk in _chunks(request, max_bytes)])
        fields = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _unreadable("is not valid JSON (NaN and Infinity are not either)") from None
    if not isinstance(fields, dict):
        raise _unreadable('must be a JSON object, such as {"prompt": "a lighthouse"}')
    return fields


async def read_form(request: Request, max_bytes: int) -> list[tuple[str, str | bytes]]:
    """The parts of a multipart form, in their order: of a file its bytes, of any other its text.
    Raises the same as `read_json_object`.
    """
    if _content_type(request) != "multipart/form-data":
        raise UnsupportedMediaType("Send a form, with content-type: multipart/form-data.")
    try:
        async with aclosing(_chunks(request, max_bytes)) as chunks:
            form = await MultiPartParser(
                request.headers,
                chunks,
                max_files=MAX_PARTS,
                max_fields=MAX_PARTS,
                max_part_size=MAX_TEXT_BYTES,
            ).parse()
    except (MultiPartException, ValueError):  # the latter of a charset that is none for text
        raise _unreadable(
            f"is not a valid form, of at most {MAX_PARTS} files and {MAX_PARTS} texts, none "
            f"of more than {MAX_TEXT_BYTES} bytes",
            "form_invalid",
        ) from None
    try:
        return [
            (name, part if isinstance(part, str) else await part.read())
            for name, part in form.multi_items()
        ]
    finally:
        await form.close()


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _chunks(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    too_large = BodyTooLarge(f"The body is larger than {max_bytes} bytes; send a smaller one.")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise too_large
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        yield chunk


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unreadable(message: str, kind: str = "json_invalid") -> InvalidRequest:
    return InvalidRequest([{"loc": ["body"], "msg": message, "type": kind}])
