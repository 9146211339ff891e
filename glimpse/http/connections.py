"""uvicorn's connections, bounded in what one of them takes of the process that serves all."""

import asyncio
import fcntl
import logging
import socket
import struct
import termios
from http import HTTPStatus
from time import thread_time
from typing import Any, ClassVar, cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from glimpse.http.crowd import Crowd, Standing
from glimpse.http.http1 import HTTP1, Malformed, refusal
from glimpse.http.seldom import Seldom

READING_SHARE = 0.25  # of the time, where a client sends as fast as it can
LONG_S = 0.001  # of CPU time, after which there is a rest
LOOK_S = 10.0  # how often it is seen whether a client reads
SLOWEST_BYTES = 64 * 2**10  # that it has to have read by then, or all there is
OPEN_LOOKS, CLOSED_LOOKS = 6, 2  # in vain; then it is cut off
HEAD_BYTES = 64 * 2**10
MOST_WAITING = 16
HEAD_S = 10.0
BODY_S = 30.0
MOST_CONNECTIONS = 1000
UNREAD_BYTES = 16 * 2**20
READ_BYTES = 1024  # that each read counts besides, as do the objects that are made of it
MOST_PIECES = 4096


def sending(transport: asyncio.BaseTransport) -> tuple[int, int]:
    """How many bytes the other side has confirmed so far, and how many more the kernel has for it.

    What the transport itself has is no measure: the kernel takes it in bites of a megabyte, and TLS
    has a buffer of its own. Linux alone tells, by `tcpi_bytes_acked` of `struct tcp_info`; where it
    does not, nobody is cut off.
    """
    peer = transport.get_extra_info("socket")
    if not hasattr(socket, "TCP_INFO"):
        return 0, 0
    [confirmed] = struct.unpack_from(
        "Q", peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128), 120
    )
    [unsent] = struct.unpack("i", fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, bytes(4)))
    return confirmed, unsent


class Gate:
    """A transport that is read while nothing holds it, and cut off when its client does not read.

    uvicorn would wait for ever, and keep all that belongs to the connection.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held_for: set[str] = set()
        self._confirmed = self._unsent = self._in_vain = 0
        self._looking = loop.call_later(LOOK_S, self._look)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def held(self) -> bool:
        """Whether the client is not being read, so that nothing can come from it."""
        return bool(self._held_for)

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

    def lost(self) -> None:
        self._looking.cancel()

    def _look(self) -> None:
        confirmed, unsent = sending(self._transport)
        read = confirmed - self._confirmed >= min(self._unsent, SLOWEST_BYTES)
        self._confirmed, self._unsent = confirmed, unsent
        self._in_vain = 0 if read else self._in_vain + 1
        if self._in_vain >= (CLOSED_LOOKS if self._transport.is_closing() else OPEN_LOOKS):
            self._transport.abort()
        else:
            self._looking = self._loop.call_later(LOOK_S, self._look)


class Bounded(asyncio.Protocol):
    """What both kinds of connection have: a `Gate`, and a share of the time.

    A connection is read for `READING_SHARE` of it. As many empty messages as are read at once take
    more than a tenth of a second, and would leave nobody else a turn.
    """

    crowd: ClassVar[Crowd[Gate]] = Crowd(MOST_CONNECTIONS)
    """The connections of this process. `deployments.http_server` puts another in its place."""
    full: ClassVar[Seldom] = Seldom(logging.getLogger(__name__))

    loop: asyncio.AbstractEventLoop
    gate: Gate
    _took_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, Gate):  # a WebSocket is given that of its handshake
            transport = cast(Any, Gate(cast(asyncio.Transport, transport), self.loop))
        self.gate = cast(Any, transport)
        super().connection_made(transport)

    def stands(self, standing: Standing) -> None:
        self.crowd.stands(self.gate, standing)

    def data_received(self, data: bytes) -> None:
        began = thread_time()
        super().data_received(data)
        self._took_s += thread_time() - began
        if self._took_s > LONG_S:
            self.gate.hold("time")
            rest_s = self._took_s / READING_SHARE - self._took_s
            self.loop.call_later(rest_s, self.gate.release, "time")
            self._took_s = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gate.lost()
        self.crowd.leave(self.gate)


class BoundedHTTP(Bounded, HTTP1):
    """A request's head has `HEAD_BYTES`, and what a read has more; so have the trailers of a body
    in chunks. At most `MOST_WAITING` requests wait for an answer to the one before them.

    A head has to be there `HEAD_S` after the connection is made, or after its first byte where it
    is not the first. Of a body there has to be more every `BODY_S`.
    """

    _read_bytes = 0
    _head_bytes: int | None = None  # so far, of one that is not complete
    _awaited: str | None = "head"  # or "body": what the client is to send next
    _head_began = False
    _heard_at = 0.0
    _timer: asyncio.TimerHandle | None = None
    _was_served = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = self.client[0] if self.client else None
        leaving = self.crowd.enter(self.gate, peer)
        if leaving is not None:
            self.full.warn("connections run out; one that nobody needs is closed for each new one")
        if leaving is self.gate:
            message = "The server has no connection left; please try again in a moment."
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", message, b"retry-after: 1")
            return
        if leaving is not None:
            leaving.abort()
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._read_bytes = len(data)
        self._heard_at = self.loop.time()
        self._awaited = self._awaited or "head"  # line ends that come before one are part of it
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._awaited is not None and self._timer is None:
            self._wait(HEAD_S if self._awaited == "head" else BODY_S)
        if self._head_bytes is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self.send_400_response(f"The path and headers may have {HEAD_BYTES} bytes.")

    def handle_websocket_upgrade(self) -> None:
        self._wait_no_more()
        self._awaited = None
        self.stands(Standing.BUSY)
        super().handle_websocket_upgrade()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_WAITING:
            raise Malformed(f"At most {MOST_WAITING} requests may wait on a connection.")
        super().on_message_begin()
        self._head_begins()
        self._awaited, self._head_began = "head", True

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_bytes = None
        self._wait_no_more()
        self._awaited, self._head_began = "body", False
        if self.comes_again or self.opens_websocket:
            return
        self.cycle.send = _Watched(self, self.cycle).send  # type: ignore[method-assign]
        if not self.pipeline:  # else an earlier request is open
            self.stands(Standing.SENDING)

    def on_chunk_header(self) -> None:
        self._head_begins()  # of trailers, unless there is a body after all

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._head_bytes = None

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = None
        self._wait_no_more()
        self._awaited = None
        if not (self.comes_again or self.opens_websocket or self.cycle.response_started):
            self.stands(Standing.BUSY)

    def _head_begins(self) -> None:
        self._head_bytes = -self._read_bytes  # what was read before it is none of it

    # Where a connection stands.

    def answer_begins(self, status: int, method: str) -> None:
        """Whoever has had something made may use the server. Reading its pages is no proof."""
        if status < 400 and method not in ("GET", "HEAD", "OPTIONS"):
            self._was_served = True
        if not self._was_served:
            self.stands(Standing.STRANGER)

    def on_response_complete(self) -> None:
        waits = bool(self.pipeline)
        super().on_response_complete()
        if not waits:
            self.stands(Standing.IDLE if self._was_served else Standing.STRANGER)

    # How long a client may take.

    def _wait(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._waited)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _waited(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._awaited == "head" and answering:
            self._wait(HEAD_S)  # the next request can wait
        elif self._awaited == "head":
            self._give_up(f"The head of a request has to come within {HEAD_S:g} seconds.")
        elif self._awaited == "body":
            self._waited_for_body()

    def _waited_for_body(self) -> None:
        if self.gate.held:
            self._heard_at = self.loop.time()  # it may send, but we do not read
        left_s = self._heard_at + BODY_S - self.loop.time()
        if left_s > 0:
            self._wait(left_s)
        else:
            self._give_up(f"No more of the body has come for {BODY_S:g} seconds.")

    def _give_up(self, message: str) -> None:
        """A browser that connects in advance, and then has nothing to ask, takes no answer."""
        silent = self._awaited == "head" and not self._head_began
        begun = self._awaited == "body" and self.cycle.response_started
        if silent or begun:
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", message)

    def _refuse(self, status: HTTPStatus, code: str, message: str, *headers: bytes) -> None:
        self.transport.write(refusal(status, code, message, *headers))
        self.transport.close()


class _Watched:
    """An answer, as far as it says where its connection stands.

    After an answer that comes before the client was told to send the body, the connection is
    closed: only the client knows whether the body will come (RFC 9110, section 10.1.1).
    """

    def __init__(self, connection: BoundedHTTP, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self._send = cycle.send

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._connection.answer_begins(message["status"], self._cycle.scope["method"])
            if self._cycle.waiting_for_100_continue:
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
        await self._send(message)


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
        if not self.handshake_initiated:
            self._refuse_handshake()
        elif not self.writable.is_set():
            self._unread_bytes += len(data) + READ_BYTES
            if self._unread_bytes > UNREAD_BYTES:
                self.gate.hold("unread")

    def _refuse_handshake(self) -> None:
        """Its head is larger than the library takes, which leaves the answer to us to send."""
        answer = b"".join(self.conn.data_to_send())
        message = "The head of this WebSocket's handshake is not valid."
        answer = answer or refusal(HTTPStatus.BAD_REQUEST, "bad_request", message)
        self.transport.write(answer)
        self.transport.close()

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
