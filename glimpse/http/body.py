"""A request's JSON body, read with care."""

import json
from typing import Any, NoReturn

from starlette.requests import Request

from glimpse.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType


async def read_json_object(request: Request, max_bytes: int) -> dict[str, Any]:
    """The fields of a JSON object. Raises `UnsupportedMediaType`; `BodyTooLarge` as soon as the
    limit is passed, the rest unread; `InvalidRequest` for what is not a JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType("Send JSON, with the header content-type: application/json.")
    try:
        fields = json.loads(await _read(request, max_bytes), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _not_an_object("is not valid JSON (NaN and Infinity are not either)") from None
    if not isinstance(fields, dict):
        raise _not_an_object('must be a JSON object, such as {"prompt": "a lighthouse"}')
    return fields


async def _read(request: Request, max_bytes: int) -> bytes:
    too_large = BodyTooLarge(f"The body is larger than {max_bytes} bytes; send a smaller one.")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _not_an_object(message: str) -> InvalidRequest:
    return InvalidRequest([{"loc": ["body"], "msg": message, "type": "json_invalid"}])
