"""Every failure as an answer, of the shape that the clients of its route know."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from glimpse.errors import GlimpseError, MethodNotAllowed, NotFound, Unauthorized
from glimpse.http.leaving import CLIENT_CLOSED_REQUEST, ClientGone
from glimpse.http.request_id import HEADER
from glimpse.protocols import openai

ANYWHERE = (401, 403, 421, 500, 503)
OF_A_BODY = (413, 415, 429)


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


def answer(path: str, error: GlimpseError, headers: Mapping[str, str] | None = None) -> Response:
    """ASCII, so that a lone surrogate in a key can be named at all."""
    if openai.speaks(path):
        status, fields = openai.status(error), openai.error_json(error)
    else:
        # `detail` and `message` both, because fal's Python client shows the one and its JavaScript
        # client the other.
        status = error.status
        fields = {"detail": error.detail, "message": error.message, "error_type": error.code}
    headers = dict(headers or {})
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return Response(json.dumps(fields), status, headers=headers, media_type="application/json")


async def refuse(error: GlimpseError, scope: Scope, receive: Receive, send: Send) -> None:
    """The answer of a middleware. A WebSocket is closed before it is accepted, which servers tell
    the client as HTTP 403."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
    else:
        await answer(scope["path"], error)(scope, receive, send)


def install(app: FastAPI) -> None:
    async def ours(request: Request, error: Any) -> Response:
        return answer(request.url.path, error)

    async def routing(request: Request, error: Any) -> Response:
        path = request.url.path
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            message = (
                f"{request.method[:20]} is not served here; use {allowed or 'another method'}."
            )
            return answer(path, MethodNotAllowed(message), error.headers)
        if error.status_code == 404:
            message = f"There is nothing at {path[:100]}; GET /docs lists what there is."
            return answer(path, NotFound(message))
        fields = {"detail": error.detail, "message": error.detail, "error_type": "http_error"}
        return JSONResponse(fields, error.status_code, headers=error.headers)

    async def unforeseen(request: Request, error: Exception) -> Response:
        # This goes out past the middleware that sets the header elsewhere. Starlette raises the
        # error again afterwards, for the server's log.
        return answer(request.url.path, GlimpseError(), {HEADER: request.state.request_id})

    async def gone(request: Request, error: Any) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    app.add_exception_handler(GlimpseError, ours)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(ClientGone, gone)
    app.add_exception_handler(HTTPException, routing)
    app.add_exception_handler(Exception, unforeseen)
