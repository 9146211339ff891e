"""uvicorn's WebSockets, bounded in what one client takes of the process that reads for all."""

import asyncio
from time import thread_time
from typing import Any, cast

from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

READING_SHARE = 0.25  # of the time, where the client sends as fast as it can
LONG_S = 0.001  # to be read; of what is read sooner, others have their turn soon enough
UNREAD_BYTES = 16 * 2**20  # the largest message that uvicorn takes, so that any can be whole
MOST_PIECES = 4096
FLUSH_S = 10.0


class BoundedWebSockets(WebSocketsSansIOProtocol):
    """There is no compression: it would unfold what is read, 256 KiB at a time, to a thousand times
    that, and pictures do not get smaller by it.

    A client is read for `READING_SHARE` of the time. As many empty messages, pings or pieces of
    messages as are read at once take a tenth of a second.

    Of a client that does not read, `UNREAD_BYTES` are read, and the rest when it reads again:
    whoever takes its messages may have ended long ago, and be waiting to tell it so.

    A message comes in at most `MOST_PIECES`. They may be empty, and each takes memory.

    When a connection is closed the client has `FLUSH_S` to read what was sent. uvicorn itself waits
    for ever, with all that belongs to the connection.
    """

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        config.ws_per_message_deflate = False
        super().__init__(config, *args, **kwargs)
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._gate = Gate(cast(asyncio.Transport, transport), self.loop)
        super().connection_made(cast(asyncio.Transport, self._gate))

    def data_received(self, data: bytes) -> None:
        began = thread_time()
        super().data_received(data)
        took_s = thread_time() - began
        if took_s > LONG_S:
            self._gate.hold("time")
            rest_s = took_s / READING_SHARE - took_s
            self.loop.call_later(rest_s, self._gate.release, "time")
        if not self.writable.is_set():
            self._unread_bytes += len(data)
            if self._unread_bytes > UNREAD_BYTES:
                self._gate.hold("unread")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_bytes = 0
        self._gate.release("unread")

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) == MOST_PIECES:
            self.conn.send_close(
                CloseCode.MESSAGE_TOO_BIG, f"a message may have {MOST_PIECES} pieces"
            )
            self.handle_parser_exception()
            return
        super().handle_cont(event)


class Gate:
    """A transport that is read while nothing holds it, and is gone soon after it was closed."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held_for: set[str] = set()

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
        self._loop.call_later(FLUSH_S, self._transport.abort)
