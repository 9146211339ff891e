"""What comes before a server's own routing: headers and paths of its that no client may use."""

import json
from collections.abc import Callable, Collection

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from glimpse.errors import NotFound
from glimpse.http.http1 import WHOLE_SERVER
from glimpse.http.paths import path_in_app
from glimpse.http.request_id import HEADER, INCOMING_HEADER, INCOMING_ID
from glimpse.request import new_request_id

TRACE_HEADERS = (b"traceparent", b"tracestate")


class Front:
    """ASGI middleware for Serve's proxy, and for an ingress behind HAProxy.

    A client may not use `reserved` headers. Their names are compared without regard to case and to
    `-` or `_`, as Serve does; one that ends with `*` stands for all that begin so. `hidden` paths
    are not there. An id of the request that could not go into a log line is replaced.
    """

    def __init__(self, app: ASGIApp, *, reserved: Collection[str], hidden: Collection[str]) -> None:
        self._app = app
        self._is_reserved = _matcher(reserved)
        self._hidden = frozenset(hidden)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope["headers"] = self._cleaned(scope["headers"])
        path = path_in_app(scope)
        if path in self._hidden and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        elif path in self._hidden:
            await _nothing(scope)(scope, receive, send)
        elif path == WHOLE_SERVER.decode() and scope.get("method") == "OPTIONS":
            await Response(status_code=204, headers={"allow": "GET, HEAD, POST, OPTIONS"})(
                scope, receive, send
            )
        else:
            await self._app(scope, receive, send)

    def _cleaned(self, headers: Collection[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        ids = [value.decode("latin-1") for name, value in headers if name == _ID]
        request_id = ids[0] if len(ids) == 1 and INCOMING_ID.fullmatch(ids[0]) else new_request_id()
        kept = [
            (name, value)
            for name, value in headers
            if name != _ID
            and not self._is_reserved(name)
            and (name not in TRACE_HEADERS or value.isascii())
        ]
        return [*kept, (_ID, request_id.encode())]


_ID = INCOMING_HEADER.encode()


def _matcher(reserved: Collection[str]) -> Callable[[bytes], bool]:
    names = {_plain(name.encode()) for name in reserved if not name.endswith("*")}
    beginnings = tuple(_plain(name[:-1].encode()) for name in reserved if name.endswith("*"))

    def is_reserved(name: bytes) -> bool:
        plain = _plain(name)
        return plain in names or plain.startswith(beginnings)

    return is_reserved


def _plain(name: bytes) -> bytes:
    return name.lower().replace(b"-", b"_")


def _nothing(scope: Scope) -> Response:
    """The answer of an application that has no such path."""
    error = NotFound("There is nothing at this path; GET /docs lists what there is.")
    fields = {"detail": error.detail, "message": error.message, "error_type": error.code}
    request_id = next(value for name, value in scope["headers"] if name == _ID)
    return Response(
        json.dumps(fields),
        error.status,
        {HEADER: request_id.decode(), "cache-control": "no-store"},
        "application/json",
    )
