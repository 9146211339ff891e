"""`glimpse.http.websocket_server`: what one client can take of the process that reads for all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from glimpse.http import websocket_server
from glimpse.http.websocket_server import (
    LONG_S,
    MOST_PIECES,
    READING_SHARE,
    UNREAD_BYTES,
    BoundedWebSockets,
)


class Wire(asyncio.Transport):
    """A client's end: it keeps what is written, and knows whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.read = True
        self.closed = False
        self.aborted = asyncio.Event()

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
        self.aborted.set()


class Timers:
    """Those of a loop, which go off when a test says so, and the time that reading takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set: list[tuple[float, Callable[[], object]]] = []
        self.reading_takes_s = 0.0
        self._now = 0.0
        monkeypatch.setattr(websocket_server, "thread_time", self._thread_time)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def go_off(self) -> list[float]:
        """After how many seconds each would have."""
        due, self.set = self.set, []
        for _, call in due:
            call()
        return [seconds for seconds, _ in due]

    def _thread_time(self) -> float:
        self._now += self.reading_takes_s
        return self._now

    def _call_later(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        self.set.append((seconds, lambda: call(*args)))


class Connection:
    """One that was upgraded, with a client that offers compression."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.taken: list[Message] = []
        self.taking = asyncio.Event()  # the application takes what has come
        self.taking.set()
        config = Config(
            self._application, interface="asgi3", log_config=None, ws_ping_interval=None
        )
        config.load()
        self.server = BoundedWebSockets(config, ServerState(), {})
        self.server.connection_made(self.wire)
        uri = parse_uri("ws://localhost/")
        client = ClientProtocol(uri, extensions=[ClientPerMessageDeflateFactory()])
        client.send_request(client.connect())
        self.server.data_received(b"".join(client.data_to_send()))
        self._client = client

    async def accepted(self) -> "Connection":
        await self.settled()
        self._client.receive_data(bytes(self.wire.written))
        self.wire.written.clear()
        assert [event.status_code for event in self._events() if isinstance(event, Response)]
        assert self._client.extensions == []
        return self

    def send(self, opcode: Opcode, data: bytes = b"", *, fin: bool = True, times: int = 1) -> None:
        self.server.data_received(Frame(opcode, data, fin=fin).serialize(mask=True) * times)

    def told(self) -> list[Frame]:
        self._client.receive_data(bytes(self.wire.written))
        self.wire.written.clear()
        return [event for event in self._events() if isinstance(event, Frame)]

    async def settled(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def _events(self) -> list[Any]:
        return self._client.events_received()

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await self.taking.wait()
            self.taken.append(await receive())
            if self.taken[-1]["type"] == "websocket.disconnect":
                return


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(monkeypatch)


@pytest.fixture
async def connection(timers: Timers) -> AsyncIterator[Connection]:
    connection = Connection()
    yield await connection.accepted()
    connection.server.connection_lost(None)
    await connection.settled()


async def test_what_takes_long_to_read_is_followed_by_a_rest(
    connection: Connection, timers: Timers
) -> None:
    timers.reading_takes_s = 10 * LONG_S
    connection.send(Opcode.PONG, times=100)
    assert not connection.wire.read
    [rest_s] = timers.go_off()
    assert connection.wire.read
    assert 10 * LONG_S / (10 * LONG_S + rest_s) == pytest.approx(READING_SHARE)


async def test_what_is_read_soon_is_not(connection: Connection, timers: Timers) -> None:
    timers.reading_takes_s = LONG_S / 2
    connection.send(Opcode.PING)
    assert connection.wire.read and not timers.set
    assert [frame.opcode for frame in connection.told()] == [Opcode.PONG]


async def test_a_message_that_waits_is_waited_for_beyond_the_rest(
    connection: Connection, timers: Timers
) -> None:
    """uvicorn's own reason not to read, and ours, end in either order."""
    timers.reading_takes_s = 10 * LONG_S
    for message_first in (True, False):
        connection.taking.clear()
        connection.taken.clear()
        connection.send(Opcode.BINARY, b"1")
        await connection.settled()
        connection.send(Opcode.BINARY, b"2")
        first, second = connection.taking.set, timers.go_off
        for end in (first, second) if message_first else (second, first):
            assert not connection.wire.read
            end()
            await connection.settled()
        assert connection.wire.read
        assert [message["bytes"] for message in connection.taken] == [b"1", b"2"]


async def test_of_a_client_that_does_not_read_so_much_is_read(connection: Connection) -> None:
    server, piece = connection.server, bytes(2**20 - 100)
    server.pause_writing()
    for _ in range(UNREAD_BYTES // 2**20):
        assert connection.wire.read
        connection.send(Opcode.BINARY, piece)
        await connection.settled()
    connection.send(Opcode.BINARY, piece)
    await connection.settled()
    assert not connection.wire.read
    assert len(connection.taken) == UNREAD_BYTES // 2**20 + 1
    server.resume_writing()
    assert connection.wire.read
    server.pause_writing()  # and so much again
    connection.send(Opcode.BINARY, piece)
    await connection.settled()
    assert connection.wire.read


@pytest.mark.parametrize("content", [b"", b"a"], ids=["empty", "small"])
async def test_a_message_may_have_so_many_pieces(connection: Connection, content: bytes) -> None:
    connection.send(Opcode.BINARY, content, fin=False)
    connection.send(Opcode.CONT, content, fin=False, times=MOST_PIECES - 2)
    connection.send(Opcode.CONT, content)
    await connection.settled()
    assert connection.taken[-1]["bytes"] == content * MOST_PIECES
    connection.send(Opcode.BINARY, content, fin=False)
    connection.send(Opcode.CONT, content, fin=False, times=2 * MOST_PIECES)
    await connection.settled()
    [close] = connection.told()
    assert close.opcode is Opcode.CLOSE and close.data[:2] == (1009).to_bytes(2, "big")
    assert b"4096 pieces" in close.data
    assert connection.wire.closed
    assert connection.taken[-1]["type"] == "websocket.disconnect"


async def test_a_connection_that_was_closed_is_gone_though_nobody_reads(
    connection: Connection, timers: Timers
) -> None:
    connection.server.keepalive_timeout()  # as uvicorn ends one whose client answers no ping
    assert connection.wire.closed and not connection.wire.aborted.is_set()
    assert timers.go_off() == [websocket_server.FLUSH_S]
    assert connection.wire.aborted.is_set()


async def test_nothing_is_asked_of_a_transport_that_closes(
    connection: Connection, timers: Timers
) -> None:
    timers.reading_takes_s = 10 * LONG_S
    connection.send(Opcode.PONG)
    connection.send(Opcode.CLOSE, (1000).to_bytes(2, "big"))
    assert connection.wire.closed
    timers.go_off()
    connection.server.resume_writing()
    assert not connection.wire.read
