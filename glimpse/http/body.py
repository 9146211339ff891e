"""A request's body, JSON or a form, read with care."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from glimpse.errors import (
    BodyTooLarge,
    InvalidRequest,
    UnsupportedEncoding,
    UnsupportedMediaType,
    UnsupportedTransfer,
)
from glimpse.protocols import form, json_text
from glimpse.protocols.form import Part

EXAMPLE = '{"prompt": "a lighthouse"}'
EMPTY = "is empty; send a JSON object, such as " + EXAMPLE
EMPTY_FORM = "is empty; send a form with a part for each field"


async def read_json_object(request: Request, max_bytes: int) -> dict[str, Any]:
    """The fields of a JSON object. Raises `UnsupportedMediaType`, also for a body that is encoded;
    `UnsupportedTransfer`; `BodyTooLarge` as soon as the limit is passed, the rest unread;
    `InvalidRequest` for what is not a JSON object.
    """
    _check_plain(request)
    if _has_none(request):
        raise _problem(EMPTY)
    kind = _content_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType("Send JSON, with the header content-type: application/json.")
    body = b"".join([chunk async for chunk in _chunks(request, max_bytes)])
    if not body.strip():
        raise _problem(EMPTY)
    try:
        fields = json_text.loads(body)
    except json_text.NotRead as failure:
        raise _problem(str(failure)) from None
    if not isinstance(fields, dict):
        raise _problem("must be a JSON object, such as " + EXAMPLE)
    return fields


async def read_form(request: Request, max_bytes: int) -> list[Part]:
    """The parts of a multipart form, in their order. Raises the same as `read_json_object`."""
    _check_plain(request)
    if _has_none(request):
        raise _problem(EMPTY_FORM, "form_invalid")
    if _content_type(request) != form.CONTENT_TYPE:
        raise UnsupportedMediaType(f"Send a form, with content-type: {form.CONTENT_TYPE}.")
    parser = form.FormParser(request.headers["content-type"])
    size = 0
    async with aclosing(_chunks(request, max_bytes)) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            parser.feed(chunk)
    if size == 0:
        raise _problem(EMPTY_FORM, "form_invalid")
    return parser.parts()


def _check_plain(request: Request) -> None:
    """Raises `UnsupportedEncoding` or `UnsupportedTransfer` where the body is not what it means."""
    encodings = {*_tokens(request, "content-encoding")} - {"identity"}
    if encodings:
        raise UnsupportedEncoding(
            "The body has a Content-Encoding, and none is taken here; send the body as it is."
        )
    if {*_tokens(request, "transfer-encoding")} - {"chunked", "identity"}:
        raise UnsupportedTransfer(
            "The body has a Transfer-Encoding that is not taken here; send it whole or chunked."
        )


def _has_none(request: Request) -> bool:
    """Whether the head says that nothing comes."""
    headers = request.headers
    if "transfer-encoding" in headers:
        return False
    return headers.get("content-length", "" if "content-type" in headers else "0") == "0"


def _tokens(request: Request, header: str) -> list[str]:
    values = ",".join(request.headers.getlist(header))
    return [token.strip().lower() for token in values.split(",") if token.strip()]


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


def _problem(message: str, kind: str = "json_invalid") -> InvalidRequest:
    return InvalidRequest([{"loc": ["body"], "msg": message, "type": kind}])
