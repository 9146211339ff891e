"""`glimpse.http.connections`: what one of them can take of the process that serves all."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import uvloop
from starlette.types import Message, Receive, Scope, Send
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from glimpse.http import connections
from glimpse.http.connections import (
    BODY_S,
    CLOSED_LOOKS,
    HEAD_BYTES,
    HEAD_S,
    LONG_S,
    LOOK_S,
    MOST_CONNECTIONS,
    MOST_PIECES,
    MOST_WAITING,
    OPEN_LOOKS,
    READ_BYTES,
    READING_SHARE,
    SLOWEST_BYTES,
    UNREAD_BYTES,
    Bounded,
    BoundedWebSocket,
    Gate,
)
from glimpse.http.crowd import Crowd
from glimpse.http.seldom import Seldom
from tests.unit.glimpse.http.wire import Answer, Wire, chunks, connected, echo, settled

SENT_BYTES = 64 * 2**20


@dataclass
class Timer:
    seconds: float
    call: Callable[[], object]
    what: str
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True

    def waits_for(self, seconds: float) -> bool:
        return self.what == "_waited" and self.seconds == seconds


class Timers:
    """Those of a loop, which go off when a test says so, and the time that reading takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading_takes_s = 0.0
        self.now = 0.0  # on the loop's clock
        self._now = 0.0
        self._set: list[Timer] = []
        monkeypatch.setattr(connections, "thread_time", self._thread_time)
        monkeypatch.setattr(connections, "sending", lambda transport: transport.sending)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr(Bounded, "crowd", Crowd[Gate](MOST_CONNECTIONS))

    def waiting(self, seconds: float) -> list[Timer]:
        """For the client to send something."""
        return [each for each in self._set if not each.cancelled and each.waits_for(seconds)]

    def pass_s(self, seconds: float) -> None:
        """What the client was given so long for is due."""
        self._go_off(lambda timer: timer.waits_for(seconds))

    def go_off(self) -> list[float]:
        """After how many seconds each would have, but those that look whether the client reads."""
        return self._go_off(lambda timer: timer.what != "_look")

    def look(self) -> None:
        assert self._go_off(lambda timer: timer.what == "_look") == [LOOK_S]

    def all_cancelled(self) -> bool:
        return all(timer.cancelled for timer in self._set)

    def _go_off(self, which: Callable[[Timer], bool]) -> list[float]:
        due = [timer for timer in self._set if which(timer) and not timer.cancelled]
        self._set = [timer for timer in self._set if not which(timer)]
        for timer in due:
            timer.call()
        return [timer.seconds for timer in due]

    def _thread_time(self) -> float:
        self._now += self.reading_takes_s
        return self._now

    def _call_later(self, seconds: float, call: Callable[..., object], *args: Any) -> Timer:
        self._set.append(Timer(seconds, lambda: call(*args), call.__name__))
        return self._set[-1]


class Session:
    """A WebSocket, whose client offers compression."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.taking = asyncio.Event()  # the application takes what has come
        self.taking.set()
        self.wire = connected(self._application)
        self._client = ClientProtocol(
            parse_uri("ws://localhost/"), extensions=[ClientPerMessageDeflateFactory()]
        )
        self._client.send_request(self._client.connect())
        self.wire.protocol.data_received(b"".join(self._client.data_to_send()))

    async def accepted(self) -> "Session":
        await self.settled()
        self._client.receive_data(bytes(self.wire.written))
        self.wire.written.clear()
        assert [event.status_code for event in self._events() if isinstance(event, Response)]
        assert self._client.extensions == []
        return self

    def send(self, opcode: Opcode, data: bytes = b"", *, fin: bool = True, times: int = 1) -> None:
        self.wire.protocol.data_received(Frame(opcode, data, fin=fin).serialize(mask=True) * times)

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
async def session(timers: Timers) -> AsyncIterator[Session]:
    session = await Session().accepted()
    assert isinstance(session.wire.protocol, BoundedWebSocket)
    yield session
    session.wire.protocol.connection_lost(None)
    await session.settled()
    assert timers.all_cancelled()


async def test_what_takes_long_to_read_is_followed_by_a_rest(
    session: Session, timers: Timers
) -> None:
    timers.reading_takes_s = 10 * LONG_S
    session.send(Opcode.PONG, times=100)
    assert not session.wire.read
    [rest_s] = timers.go_off()
    assert session.wire.read
    assert 10 * LONG_S / (10 * LONG_S + rest_s) == pytest.approx(READING_SHARE)


async def test_what_is_read_soon_adds_up(session: Session, timers: Timers) -> None:
    timers.reading_takes_s = 0.4 * LONG_S
    for read in (True, True, False):
        session.send(Opcode.PING)
        assert session.wire.read == read
    assert timers.go_off() == [pytest.approx(1.2 * LONG_S * 3)]
    assert session.wire.read
    assert [frame.opcode for frame in session.told()] == 3 * [Opcode.PONG]


async def test_a_message_that_waits_is_waited_for_beyond_the_rest(
    session: Session, timers: Timers
) -> None:
    """uvicorn's own reason not to read, and ours, end in either order."""
    timers.reading_takes_s = 10 * LONG_S
    for message_first in (True, False):
        session.taking.clear()
        session.taken.clear()
        session.send(Opcode.BINARY, b"1")
        await session.settled()
        session.send(Opcode.BINARY, b"2")
        first, second = session.taking.set, timers.go_off
        for end in (first, second) if message_first else (second, first):
            assert not session.wire.read
            end()
            await session.settled()
        assert session.wire.read
        assert [message["bytes"] for message in session.taken] == [b"1", b"2"]


async def test_of_a_client_that_does_not_read_so_much_is_read(session: Session) -> None:
    piece = bytes(2**20 - 14 - READ_BYTES)  # with its header and mask
    session.wire.protocol.pause_writing()
    for _ in range(UNREAD_BYTES // 2**20):
        assert session.wire.read
        session.send(Opcode.BINARY, piece)
        await session.settled()
    session.send(Opcode.BINARY, piece)
    await session.settled()
    assert not session.wire.read
    assert len(session.taken) == UNREAD_BYTES // 2**20 + 1
    session.wire.protocol.resume_writing()
    assert session.wire.read
    session.wire.protocol.pause_writing()  # and so much again
    session.send(Opcode.BINARY, piece)
    await session.settled()
    assert session.wire.read


@pytest.mark.parametrize("content", [b"", b"a"], ids=["empty", "small"])
async def test_a_message_may_have_so_many_pieces(session: Session, content: bytes) -> None:
    session.send(Opcode.BINARY, content, fin=False)
    session.send(Opcode.CONT, content, fin=False, times=MOST_PIECES - 2)
    session.send(Opcode.CONT, content)
    await session.settled()
    assert session.taken[-1]["bytes"] == content * MOST_PIECES
    session.send(Opcode.BINARY, content, fin=False)
    session.send(Opcode.CONT, content, fin=False, times=2 * MOST_PIECES)
    await session.settled()
    [close] = session.told()
    assert close.opcode is Opcode.CLOSE and close.data[:2] == (1009).to_bytes(2, "big")
    assert b"4096 pieces" in close.data
    assert session.wire.closed
    assert session.taken[-1]["type"] == "websocket.disconnect"


async def test_pieces_without_end_after_which_the_client_leaves(session: Session) -> None:
    """In one read, so that the connection is no longer open when the pieces are counted."""
    pieces = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * MOST_PIECES
    session.wire.protocol.data_received(
        Frame(Opcode.BINARY, b"", fin=False).serialize(mask=True)
        + pieces
        + Frame(Opcode.CONT, b"").serialize(mask=True)
        + Frame(Opcode.CLOSE, (1000).to_bytes(2, "big")).serialize(mask=True)
    )
    await session.settled()
    assert session.wire.closed and session.taken[-1]["type"] == "websocket.disconnect"


@pytest.mark.parametrize(("closed", "looks"), [(False, OPEN_LOOKS), (True, CLOSED_LOOKS)])
async def test_who_does_not_read_is_cut_off(
    session: Session, timers: Timers, closed: bool, looks: int
) -> None:
    wire = session.wire
    wire.sending = (10**6, 10**9)
    timers.look()
    if closed:
        wire.protocol.keepalive_timeout()  # where no ping is answered
    for _ in range(looks):
        assert not wire.aborted
        wire.sending = (wire.sending[0] + SLOWEST_BYTES - 1, 10**9)
        timers.look()
    assert wire.aborted


@pytest.mark.parametrize("closed", [False, True])
async def test_who_reads_is_not(session: Session, timers: Timers, closed: bool) -> None:
    wire = session.wire
    if closed:
        wire.protocol.keepalive_timeout()
    slow = [(SLOWEST_BYTES, 10**9), (0, 10**9)]  # with a pause, though not for long
    little = [(10, 10)]
    for confirmed, unsent in 10 * [(0, 0)] + 10 * slow + [(SLOWEST_BYTES, 10)] + 10 * little:
        wire.sending = (wire.sending[0] + confirmed, unsent)
        timers.look()
    assert not wire.aborted


async def test_nothing_is_asked_of_a_transport_that_closes(
    session: Session, timers: Timers
) -> None:
    timers.reading_takes_s = 10 * LONG_S
    session.send(Opcode.PONG)
    session.send(Opcode.CLOSE, (1000).to_bytes(2, "big"))
    assert session.wire.closed
    session.wire.protocol.resume_writing()
    timers.go_off()
    assert not session.wire.read


@pytest.fixture
async def wire(timers: Timers) -> AsyncIterator[Wire]:
    """To an application that answers any request."""
    wire = connected(chunks)
    yield wire
    wire.protocol.connection_lost(None)
    await asyncio.sleep(0)


@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.1\r\nX-A: ", b"GET / HTTP/1.1\r\n"])
async def test_a_head_without_end_is_refused(wire: Wire, head: bytes) -> None:
    wire.protocol.data_received(head)
    line = b"a" * 1000 if head[-1:] != b"\n" else b"A: b\r\n" * 150
    sent = len(head)
    while not wire.closed:
        assert sent <= HEAD_BYTES
        wire.protocol.data_received(line)
        sent += len(line)
    assert wire.written.startswith(b"HTTP/1.1 400") and b"65536 bytes" in wire.written


async def test_bodies_and_further_requests_are_no_heads(wire: Wire) -> None:
    for _ in range(3):
        wire.written.clear()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
        for part in (head[:20], head[20:], bytes(40_000), bytes(60_000)):
            wire.protocol.data_received(part)
        for _ in range(5):
            await asyncio.sleep(0)
        assert wire.written.startswith(b"HTTP/1.1 200") and not wire.closed


async def test_trailers_without_end_are_refused(wire: Wire) -> None:
    wire.protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunks = b"1\r\na\r\n" * 50_000  # of which any number may come, however they are read
    for start in range(0, len(chunks), 7_001):
        wire.protocol.data_received(chunks[start : start + 7_001])
    assert not wire.closed
    wire.protocol.data_received(b"0\r\n")
    sent = 0
    while not wire.closed:
        assert sent <= HEAD_BYTES
        wire.protocol.data_received(b"A: b\r\n" * 150)
        sent += 900


async def test_a_head_begins_in_the_read_that_ends_a_body(wire: Wire) -> None:
    wire.protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    wire.protocol.data_received(bytes(100_000) + b"GET / HTTP/1.1\r\nHo")
    wire.protocol.data_received(b"st: a\r\n\r\n")
    for _ in range(10):
        await asyncio.sleep(0)
    assert wire.written.count(b"HTTP/1.1 200") == 2 and not wire.closed


@pytest.mark.parametrize(("number", "answered"), [(MOST_WAITING + 1, True), (10_000, False)])
async def test_so_many_requests_may_wait(wire: Wire, number: int, answered: bool) -> None:
    wire.protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * number)
    assert wire.closed != answered
    assert len(wire.protocol.pipeline) <= MOST_WAITING
    for _ in range(10 * number if answered else 0):
        await asyncio.sleep(0)
    assert wire.written.count(b"HTTP/1.1 200") == (number if answered else 0)


# How long a client may take


@pytest.mark.parametrize(
    ("reads", "status"),
    [
        ([], None),  # a browser that connects in advance
        ([b"GET"], 408),
        ([b"GET / HTTP/1.1\r\nHost: a\r\n"], 408),
        ([b"\r\n"], None),
        ([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET"], 408),
        ([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n"], None),
        ([b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n"], 408),
    ],
)
async def test_a_head_has_to_come_in_time(
    wire: Wire, timers: Timers, reads: list[bytes], status: int | None
) -> None:
    for read in reads:
        wire.protocol.data_received(read)
        await settled()
    answer = Answer(wire.written) if wire.written else None
    while answer and answer.rest:
        answer = Answer(answer.rest)  # those before it were answered
    wire.written.clear()
    timers.pass_s(HEAD_S)
    assert wire.closed
    if status is None:
        assert not wire.written
    else:
        told = Answer(wire.written)
        assert (told.status, told.said["error_type"]) == (408, "request_timeout")
        assert "within 10 seconds" in told.said["message"]


async def test_a_slow_head_is_not_given_more_time_by_each_byte(wire: Wire, timers: Timers) -> None:
    for byte in b"GET / H":
        wire.protocol.data_received(bytes([byte]))
    assert len(timers.waiting(HEAD_S)) == 1
    timers.pass_s(HEAD_S)
    assert wire.closed


async def test_a_head_that_is_there_is_waited_for_no_more(wire: Wire, timers: Timers) -> None:
    for _ in range(3):
        wire.protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert timers.waiting(HEAD_S)
        wire.protocol.data_received(b"\r\n")
        await settled()
        assert not timers.waiting(HEAD_S)
    assert not wire.closed


async def test_of_a_body_there_has_to_be_more_in_time(timers: Timers) -> None:
    wire = connected(echo)
    wire.protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    await settled()
    for _ in range(8):
        timers.now += BODY_S - 1
        wire.protocol.data_received(b"a")
        await settled()
        timers.pass_s(BODY_S)  # as set by a byte before
        assert not wire.closed
    timers.now += BODY_S
    for _ in range(2):  # what is left since the last byte, of a timer that was set before it
        timers.go_off()
    told = Answer(wire.written)
    assert (told.status, told.said["error_type"]) == (408, "request_timeout") and wire.closed
    wire.protocol.connection_lost(None)
    await settled()


async def test_a_body_that_is_refused_is_waited_for_no_longer(timers: Timers) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    wire = connected(refuse)
    wire.protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    await settled()
    wire.written.clear()
    timers.now += BODY_S
    timers.pass_s(BODY_S)
    assert wire.closed and not wire.written
    wire.protocol.connection_lost(None)


async def test_an_answer_in_place_of_continue_is_the_last(timers: Timers) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    head = b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: 9\r\n\r\n"
    for expects in (True, False):
        wire = connected(refuse)
        wire.protocol.data_received(head % (b"Expect: 100-continue\r\n" if expects else b""))
        await settled()
        assert wire.written.startswith(b"HTTP/1.1 413")
        assert (b"connection: close" in wire.written) == wire.closed == expects
        wire.protocol.connection_lost(None)


async def test_a_body_that_we_do_not_read_is_not_its_clients_fault(timers: Timers) -> None:
    wire = connected(echo)
    wire.protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    wire.protocol.gate.hold("test")
    for _ in range(3):
        timers.now += 2 * BODY_S
        timers.pass_s(BODY_S)
        assert not wire.closed
    wire.protocol.gate.release("test")
    wire.protocol.data_received(b"123456789")
    await settled()
    assert Answer(wire.written).said["body"] == "123456789"
    assert not timers.waiting(BODY_S)
    wire.protocol.connection_lost(None)


async def test_a_head_that_comes_while_another_request_is_answered_can_wait(
    timers: Timers,
) -> None:
    go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await chunks(scope, receive, send)

    wire = connected(slow)
    wire.protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT")
    for _ in range(3):
        timers.pass_s(HEAD_S)
        assert not wire.closed and not wire.written
    go_on.set()
    await settled()
    timers.pass_s(HEAD_S)
    assert wire.closed
    wire.protocol.connection_lost(None)


# How many there may be


POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, timers: Timers) -> None:
    """Of connections."""
    monkeypatch.setattr(Bounded, "crowd", Crowd[Gate](2))
    monkeypatch.setattr(Bounded, "full", Seldom(logging.getLogger("glimpse.http.connections")))


async def served(application: Callable[..., Any] = echo) -> Wire:
    """A connection on which something was made."""
    wire = connected(application)
    wire.protocol.data_received(POST)
    await settled()
    return wire


@pytest.mark.usefixtures("few")
async def test_a_connection_on_which_nothing_was_served_goes_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = await served(), connected(echo)
    second.protocol.data_received(GET)  # which proves nothing
    await settled()
    third = connected(echo)
    assert (first.aborted, second.aborted, third.closed) == (False, True, False)
    second.protocol.connection_lost(None)
    for half in (b"", b"GET / HT"):
        third.protocol.data_received(half)
        fourth = connected(echo)
        assert third.aborted and not first.aborted
        third.protocol.connection_lost(None)
        third = fourth
    assert [message.partition(";")[0] for message in caplog.messages] == ["connections run out"]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_a_request_that_is_refused_proves_nothing(status: int) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    refused, good = await served(refuse), await served()
    connected(echo)
    assert refused.aborted and not good.aborted


@pytest.mark.usefixtures("few")
async def test_an_open_request_and_a_session_are_never_cut_off() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    waiting = await served(never)
    session = await Session().accepted()
    newcomer = connected(echo)
    told = Answer(newcomer.written)
    assert (told.status, told.headers["retry-after"]) == (503, "1") and newcomer.closed
    assert told.said["error_type"] == "overloaded"
    assert not waiting.aborted and not session.wire.aborted
    session.wire.protocol.connection_lost(None)
    await session.settled()
    assert not connected(echo).closed
    for task in waiting.protocol.tasks:
        task.cancel()


@pytest.mark.usefixtures("few")
async def test_who_sends_a_body_without_end_goes_before_a_request_that_is_open() -> None:
    sending = connected(echo)
    sending.protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1")
    idle = await served()
    third = connected(echo)
    assert idle.aborted and not sending.aborted
    idle.protocol.connection_lost(None)
    third.protocol.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1")
    sending.protocol.data_received(b"2345678")
    fourth = connected(echo)
    assert sending.aborted and not third.aborted and not fourth.closed
    for wire in (sending, third, fourth):
        wire.protocol.connection_lost(None)
    await settled()


@pytest.mark.usefixtures("few")
async def test_who_does_not_read_an_answer_that_anybody_gets_goes() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await asyncio.sleep(0)

    reader = connected(endless)
    reader.protocol.data_received(GET)
    await settled()
    maker = await served(endless)
    connected(echo)
    assert reader.aborted and not maker.aborted
    for wire in (reader, maker):
        for task in wire.protocol.tasks:
            task.cancel()


async def test_one_address_may_have_a_limit_of_its_own(
    monkeypatch: pytest.MonkeyPatch, timers: Timers
) -> None:
    monkeypatch.setattr(Bounded, "crowd", Crowd[Gate](10, 1))
    first, other = connected(echo, "10.0.0.1"), connected(echo, "10.0.0.2")
    second = connected(echo, "10.0.0.1")
    assert first.aborted and not other.aborted and not second.closed


class Large(asyncio.Protocol):
    """Sends more than anybody's kernel keeps, and closes."""

    def __init__(self, lost: asyncio.Event) -> None:
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._gate = Gate(cast(asyncio.Transport, transport), asyncio.get_running_loop())
        self._gate.write(bytes(SENT_BYTES))
        self._gate.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.lost()
        self._lost.set()


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "never reads"])
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_over_a_real_socket(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    reads: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> int:
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Large(lost), "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.setblocking(False)
        received = 0
        async with asyncio.timeout(60):
            while reads and (data := await loop.sock_recv(client, 2**18)):
                received += len(data)
                await asyncio.sleep(0.01)  # so that all of it takes several looks
            await lost.wait()
        client.close()
        server.close()
        return received

    monkeypatch.setattr(connections, "LOOK_S", 0.5)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(run()) == (SENT_BYTES if reads else 0)
