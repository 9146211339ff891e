"""A connection to uvicorn as this server sets it up, whose client is a test."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from glimpse.http.connections import BoundedHTTP, BoundedWebSocket


class Wire(asyncio.Transport):
    """A client's end: it keeps what is written, and knows whether it is read."""

    def __init__(self, address: str | None = None) -> None:
        super().__init__()
        self.protocol: Any = None
        self.written = bytearray()
        self.sending = (0, 0)  # confirmed, unsent
        self.read = True
        self.closed = False
        self.aborted = False
        self._address = address

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._address, 1) if name == "peername" and self._address else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert self.read and not self.closed
        self.read = False

    def resume_reading(self) -> None:
        assert not self.read and not self.closed
        self.read = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


def connected(application: Callable[..., Any], address: str | None = None) -> Wire:
    """A connection of which nothing has been read yet."""
    config = Config(
        application, interface="asgi3", ws=BoundedWebSocket, ws_ping_interval=None, log_config=None
    )
    config.load()
    wire = Wire(address)
    wire.protocol = BoundedHTTP(config, ServerState(), {})
    wire.protocol.connection_made(wire)
    return wire


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Answer:
    """The first answer of what was written, and what comes after it."""

    def __init__(self, written: bytes | bytearray) -> None:
        head, _, rest = bytes(written).partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        self.version, status, *_ = line.decode().split(" ")
        self.status = int(status)
        self.headers = {
            name.strip().decode(): value.strip().decode()
            for name, value in (header.split(b":", 1) for header in headers)
        }
        length = 0 if self.status < 200 else int(self.headers.get("content-length", len(rest)))
        self.body, self.rest = rest[:length], rest[length:]

    @property
    def said(self) -> Any:
        return json.loads(self.body)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was asked. Of a WebSocket it takes one message."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"x-path", scope["path"].encode())]})
        await receive()
        return
    body = b""
    message: Message = {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    asked = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode(),
    }
    content = json.dumps(asked).encode()
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def chunks(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in two parts, and does not say how long they are."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})
