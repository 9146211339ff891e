"""Every failure as an answer, of the shape that the clients of its route know. Counts refusals."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from glimpse.errors import (
    BadRequest,
    GlimpseError,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    UnsupportedEncoding,
)
from glimpse.http.leaving import CLIENT_CLOSED_REQUEST, ClientGone
from glimpse.http.request_id import HEADER
from glimpse.meter import Meter
from glimpse.protocols import openai_answers as openai

ANYWHERE = (401, 403, 421, 500, 503)
OF_A_BODY = (413, 415, 429, 501)
WEBSOCKETS = ("realtime", "ws")  # the last part of their paths
# An answer in place of a WebSocket (https://asgi.readthedocs.io/en/latest/extensions.html).
DENIAL_RESPONSE = "websocket.http.response"


TEXT = {"type": "string"}
ERROR = {
    "type": "object",
    "required": ["detail", "message", "error_type"],
    "properties": {
        "detail": {"anyOf": [TEXT, {"type": "array", "items": {"type": "object"}}]},
        "message": TEXT,
        "error_type": TEXT,
    },
}
OPENAI_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "param": {"type": ["string", "null"]},
                "code": TEXT,
            },
        }
    },
}


def documented(*statuses: int, schema: dict[str, Any] = ERROR) -> dict[int | str, dict[str, Any]]:
    """The `responses` of routes that may fail so."""
    return {status: {"content": {"application/json": {"schema": schema}}} for status in statuses}


class GenerationFailed(Exception):
    """A generation ended without its pictures. It was admitted: its request is answered with
    `error`, but does not count as refused."""

    def __init__(self, error: GlimpseError) -> None:
        super().__init__(error)
        self.error = error


def count_refusal(scope: Scope, code: str) -> None:
    """Of a request, a session or a message, under the code of its error. Every door comes here."""
    meter: Meter = scope["app"].state.meter
    meter.refused(code)


class Refusal(Response):
    """Counts when it is sent: Starlette has the answer to an unforeseen error made even where
    another answer has begun, and then does not send it."""

    def __init__(self, code: str, content: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(content, status, headers, media_type="application/json")
        self._code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        count_refusal(scope, self._code)
        await super().__call__(scope, receive, send)


def _refusal(path: str, error: GlimpseError, headers: Mapping[str, str] | None = None) -> Refusal:
    content, status, ours = _told(path, error)
    return Refusal(error.code, content, status, {**(headers or {}), **ours})


def _told(path: str, error: GlimpseError) -> tuple[str, int, dict[str, str]]:
    """Body, status and headers. ASCII, so that a lone surrogate in a key can be named at all."""
    if openai.speaks(path):
        status, fields = openai.status(error), openai.error_json(error, openai.names_at(path))
    else:
        # `detail` and `message` both, because fal's Python client shows the one and its JavaScript
        # client the other.
        status = error.status
        fields = {"detail": error.detail, "message": error.message, "error_type": error.code}
    headers = {"cache-control": "no-store"}  # a cache may keep a 404 or a 405 otherwise
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, UnsupportedEncoding):
        headers["accept-encoding"] = "identity"
    return json.dumps(fields), status, headers


async def refuse(error: GlimpseError, scope: Scope, receive: Receive, send: Send) -> None:
    """The answer of a middleware. A WebSocket is closed before it is accepted, which servers tell
    the client as HTTP 403. Where the server can, a mistake in the request is told as such."""
    if scope["type"] == "websocket" and not (
        isinstance(error, BadRequest | NotFound) and DENIAL_RESPONSE in scope.get("extensions", {})
    ):
        count_refusal(scope, error.code)
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
    else:
        await _refusal(scope["path"], error)(scope, receive, send)


def install(app: FastAPI) -> None:
    async def ours(request: Request, error: Any) -> Response:
        return _refusal(request.url.path, error)

    async def failed(request: Request, failure: Any) -> Response:
        content, status, headers = _told(request.url.path, failure.error)
        return Response(content, status, headers, media_type="application/json")

    async def routing(request: Request, error: Any) -> Response:
        path = request.url.path
        if error.status_code == 405:
            allowed = _allowed(request, error)
            if request.method == "OPTIONS":
                return Response(status_code=204, headers={"allow": allowed})
            message = (
                f"{request.method[:20]} is not served here; use {allowed or 'another method'}."
            )
            return _refusal(path, MethodNotAllowed(message), {"allow": allowed})
        if error.status_code == 404:
            lost_upgrade = path.rpartition("/")[2] in WEBSOCKETS
            return _refusal(path, _no_upgrade() if lost_upgrade else _nothing_at(path))
        code = "http_error"
        fields = {"detail": error.detail, "message": error.detail, "error_type": code}
        return Refusal(code, json.dumps(fields), error.status_code, error.headers or {})

    async def unforeseen(request: Request, error: Exception) -> Response:
        # Starlette raises the error again afterwards, for the server's log.
        return _refusal(request.url.path, GlimpseError(), {HEADER: request.state.request_id})

    async def gone(request: Request, error: Any) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    app.add_exception_handler(GlimpseError, ours)
    app.add_exception_handler(GenerationFailed, failed)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(ClientGone, gone)
    app.add_exception_handler(HTTPException, routing)
    # Outside of all middleware, for a failure of theirs; inside it, so that CORS's is passed.
    app.add_exception_handler(Exception, unforeseen)
    app.add_middleware(ServerErrorMiddleware, handler=unforeseen)
    app.router.default = _Nowhere(app.router.default)


class _Nowhere:
    """Where no route leads. A WebSocket is refused as a middleware does it: Starlette closes it
    without an exception that could be handled."""

    def __init__(self, otherwise: ASGIApp) -> None:
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await refuse(_nothing_at(scope["path"]), scope, receive, send)
        else:
            await self._otherwise(scope, receive, send)


def _no_upgrade() -> NotFound:
    """What a WebSocket's handshake gets behind a proxy that does not know WebSockets."""
    return NotFound(
        "There is only a WebSocket at this path. Connect with a WebSocket client, and have any "
        "proxy in front pass the headers Upgrade and Connection on."
    )


def _allowed(request: Request, error: HTTPException) -> str:
    """All methods of the path. Starlette names those of the first route that has it, and a route
    that answers with a 405 itself has none."""
    allowed = {*(error.headers or {}).get("Allow", "").split(", ")} - {""}
    path = getattr(request.scope.get("route"), "path", "")
    for route in iter_route_contexts(request.app.routes):
        methods = route.methods or set()
        if route.path == path and request.method not in methods:
            allowed |= methods
    if "GET" in allowed:
        allowed.add("HEAD")
    return ", ".join(sorted(allowed))


def _nothing_at(path: str) -> NotFound:
    message = f"There is nothing at {path[:100]}; GET /docs lists what there is."
    return NotFound(message + openai.hint(path))
