"""WebSockets to the app that a test drives by hand."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import msgpack
from fastapi import FastAPI
from starlette.types import Message

NAMED = {"host": "test"}


class Socket:
    """A client's end. What the app sends waits for `receive`; while `reading` is not set, the app
    has to wait, as for a client that does not read, behind a server that has backpressure.
    """

    def __init__(
        self,
        app: FastAPI,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = NAMED,
        *,
        port: int = 1,
        says_why: bool = False,
    ) -> None:
        """`says_why`: the server can answer in place of a WebSocket, as uvicorn does."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self._scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in pairs],
            "client": ("127.0.0.1", port),
            "server": ("127.0.0.1", 80),
            "subprotocols": [],
            **({"extensions": {"websocket.http.response": {}}} if says_why else {}),
        }

    async def __aenter__(self) -> "Socket":
        self._to_app.put_nowait({"type": "websocket.connect"})
        self.served = asyncio.create_task(self._app(self._scope, self._to_app.get, self._send))
        self.opened = await self._next()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The client leaves; the app notices, and ends."""
        self.leave()
        self.reading.set()
        async with asyncio.timeout(5):
            await self.served

    @property
    def accepted(self) -> bool:
        return bool(self.opened["type"] == "websocket.accept")

    @property
    def taken(self) -> bool:
        """Whether the app has taken all that was sent."""
        return self._to_app.empty()

    def send(self, frame: bytes | str | Mapping[str, Any]) -> None:
        """A frame, or a message in msgpack."""
        if isinstance(frame, Mapping):
            frame = msgpack.packb(frame)
        kind = "text" if isinstance(frame, str) else "bytes"
        self._to_app.put_nowait({"type": "websocket.receive", kind: frame})

    def leave(self) -> None:
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1005})

    async def receive(self) -> Any:
        """The next message, decoded; of an unexpected close, the event."""
        message = await self._next()
        if "bytes" in message and message["bytes"] is not None:
            return msgpack.unpackb(message["bytes"])
        return json.loads(message["text"]) if "text" in message else message

    async def receive_frame(self) -> bytes | str:
        message = await self._next()
        frame: bytes | str | None = message.get("bytes")
        return message["text"] if frame is None else frame

    async def closed(self) -> tuple[int, str]:
        """The code and the reason of the server's close, which must be next."""
        message = await self._next()
        assert message["type"] == "websocket.close", message
        return message["code"], message["reason"]

    async def _next(self) -> Message:
        """Raises what the app has raised, if it has nothing more to say."""
        following = asyncio.ensure_future(self._from_app.get())
        try:
            await asyncio.wait(
                {following, self.served}, timeout=5, return_when=asyncio.FIRST_COMPLETED
            )
            if not following.done() and self.served.done():
                self.served.result()
            assert following.done(), "the app says nothing"
            return following.result()
        finally:
            following.cancel()

    async def _send(self, message: Message) -> None:
        await self.reading.wait()
        self._from_app.put_nowait(message)


async def opens(
    app: FastAPI,
    path: str,
    query: str = "",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = NAMED,
) -> bool:
    """Whether a WebSocket may come in; it leaves at once."""
    async with Socket(app, path, query, headers) as socket:
        return socket.accepted
