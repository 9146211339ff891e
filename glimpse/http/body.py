"""A request's body, JSON or a form, read with care."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from glimpse.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from glimpse.protocols import form, json_text
from glimpse.protocols.form import Part


async def read_json_object(request: Request, max_bytes: int) -> dict[str, Any]:
    """The fields of a JSON object. Raises `UnsupportedMediaType`; `BodyTooLarge` as soon as the
    limit is passed, the rest unread; `InvalidRequest` for what is not a JSON object.
    """
    kind = _content_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType("Send JSON, with the header content-type: application/json.")
    try:
        body = b"".join([chunk async for chunk in _chunks(request, max_bytes)])
        fields = json_text.loads(body)
    except ValueError:
        raise _not_an_object(
            "is not valid JSON (NaN and Infinity are not either), or has too many values"
        ) from None
    if not isinstance(fields, dict):
        raise _not_an_object('must be a JSON object, such as {"prompt": "a lighthouse"}')
    return fields


async def read_form(request: Request, max_bytes: int) -> list[Part]:
    """The parts of a multipart form, in their order. Raises the same as `read_json_object`."""
    if _content_type(request) != form.CONTENT_TYPE:
        raise UnsupportedMediaType(f"Send a form, with content-type: {form.CONTENT_TYPE}.")
    parser = form.FormParser(request.headers["content-type"])
    async with aclosing(_chunks(request, max_bytes)) as chunks:
        async for chunk in chunks:
            parser.feed(chunk)
    return parser.parts()


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


def _not_an_object(message: str) -> InvalidRequest:
    return InvalidRequest([{"loc": ["body"], "msg": message, "type": "json_invalid"}])
