"""uvicorn's connections, bounded in what one of them takes of the process that serves all."""

import asyncio
from time import thread_time
from typing import Any, cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

READING_SHARE = 0.25  # of the time, where a client sends as fast as it can
LONG_S = 0.001  # of CPU time, to read what has come; what took less is not rested from
HEAD_BYTES = 64 * 2**10
UNREAD_BYTES = 16 * 2**20
READ_BYTES = 1024  # that each read counts besides, as do the objects that are made of it
MOST_PIECES = 4096
OPEN_PATIENCE_S = 60.0
CLOSED_PATIENCE_S = 10.0


class Gate:
    """A transport that is read while nothing holds it, and cut off when its client does not read.

    Where there is more to read than asyncio takes for little, some of it has to be read within
    `OPEN_PATIENCE_S`; when the connection is being closed, within `CLOSED_PATIENCE_S`. uvicorn
    would wait for ever, and keep all that belongs to the connection.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held_for: set[str] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def hold(self, reason: str) -> None:
        if not self._held_for and not self._transport.is_closing():
            self._transport.pause_reading()
        self._held_for.add(reason)

    def release(self, reason: str) -> None:
        if reason not in self._held_for:
            return
        self._held_for.remove(reason)
        if not self._held_for and not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_reading(self) -> None:
        self.hold("message")

    def resume_reading(self) -> None:
        self.release("message")

    def close(self) -> None:
        self._transport.close()
        self.closing()

    def closing(self) -> None:
        """It is being closed, by whomever, as soon as all is sent."""
        if not self._closing:
            self._closing = True
            self._watch(CLOSED_PATIENCE_S)

    def writing_paused(self) -> None:
        if not self._closing:
            self._watch(OPEN_PATIENCE_S)

    def writing_resumed(self) -> None:
        if not self._closing:
            self.unwatch()

    def unwatch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _watch(self, patience_s: float) -> None:
        """Until there is nothing to wait for any more: that it makes some progress each time."""
        self.unwatch()
        left = self._transport.get_write_buffer_size()

        def look() -> None:
            if self._transport.get_write_buffer_size() < left:
                self._watch(patience_s)
            else:
                self._transport.abort()

        self._watching = self._loop.call_later(patience_s, look)


class Bounded(asyncio.Protocol):
    """What both kinds of connection have: a `Gate`, and a share of the time.

    A connection is read for `READING_SHARE` of it. As many empty messages as are read at once take
    more than a tenth of a second, and would leave nobody else a turn.
    """

    loop: asyncio.AbstractEventLoop
    gate: Gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, Gate):  # a WebSocket is given that of its handshake
            transport = cast(Any, Gate(cast(asyncio.Transport, transport), self.loop))
        self.gate = cast(Any, transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        began = thread_time()
        super().data_received(data)
        took_s = thread_time() - began
        if took_s > LONG_S:
            self.gate.hold("time")
            rest_s = took_s / READING_SHARE - took_s
            self.loop.call_later(rest_s, self.gate.release, "time")

    def pause_writing(self) -> None:
        super().pause_writing()
        self.gate.writing_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.gate.writing_resumed()

    def eof_received(self) -> None:
        super().eof_received()
        self.gate.closing()  # uvicorn leaves it to the transport

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gate.unwatch()


class BoundedHTTP(Bounded, HttpToolsProtocol):
    """A request's path and headers have `HEAD_BYTES`, and what one read has more."""

    _head_bytes: int | None = None  # so far, of one that is not complete

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self.send_400_response(f"The path and headers may have {HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_bytes = None


class BoundedWebSocket(Bounded, WebSocketsSansIOProtocol):
    """There is no compression: it would unfold what is read, 256 KiB at a time, to a thousand times
    that, and pictures do not get smaller by it.

    Of a client that does not read, `UNREAD_BYTES` are read, and the rest when it reads again: the
    application may have ended long ago, and be waiting for room to say so.

    A message comes in at most `MOST_PIECES`. They may be empty, and each takes memory.
    """

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        config.ws_per_message_deflate = False
        super().__init__(config, *args, **kwargs)
        self._unread_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.writable.is_set():
            self._unread_bytes += len(data) + READ_BYTES
            if self._unread_bytes > UNREAD_BYTES:
                self.gate.hold("unread")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_bytes = 0
        self.gate.release("unread")

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) == MOST_PIECES:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"a message may have {MOST_PIECES} pieces")
            self.handle_parser_exception()
            return
        super().handle_cont(event)
