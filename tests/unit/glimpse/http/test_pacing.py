"""`glimpse.http.pacing`: what is read of a connection, and when."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from config.settings import RealtimeSettings
from glimpse.http import pacing
from glimpse.http.pacing import BURST_S, BYTES_PER_S, MESSAGE_BYTES, Bucket, Paced
from glimpse.http.realtime import FLOOD

SETTINGS = RealtimeSettings.model_json_schema()["properties"]
MAX_MESSAGES_PER_S = SETTINGS["messages_per_s"]["maximum"]
MAX_INPUT_BYTES_PER_S = SETTINGS["max_input_bytes_per_s"]["maximum"]
BURST_BYTES = BYTES_PER_S * BURST_S


class Clock:
    """Time that passes only where somebody sleeps, or says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.interrupted = False
        monkeypatch.setattr(pacing, "monotonic", lambda: self.now)
        monkeypatch.setattr(pacing, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds / 2 if self.interrupted else seconds
        if self.interrupted:
            raise asyncio.CancelledError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_bucket_gives_what_there_is_and_fills_with_time(clock: Clock) -> None:
    bucket = Bucket(per_s=10, burst_s=2)
    assert bucket.take(20) and not bucket.take(1)
    clock.now += 0.1
    assert bucket.take(1) and not bucket.take(1)
    clock.now += 3600
    assert not bucket.take(21) and bucket.take(20)


def test_what_is_borrowed_has_to_come_before_anything_else(clock: Clock) -> None:
    bucket = Bucket(per_s=10, burst_s=1)
    assert bucket.borrow(10) == 0
    assert bucket.borrow(5) == 0.5
    assert bucket.borrow(5) == 1
    clock.now += 1
    assert not bucket.take(1) and bucket.borrow(0) == 0


def test_a_slow_bucket_still_has_one(clock: Clock) -> None:
    assert Bucket(per_s=0.1, burst_s=1).take(1)


async def seconds_to_read(
    clock: Clock, message: Message, number: int, *, every_s: float = 0.0
) -> float:
    """What an application takes to read so many, of which the client sends one `every_s`."""
    began = clock.now

    async def receive() -> Message:
        clock.now += every_s
        return message

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(number):
            assert await receive() is message

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await Paced(application)({"type": "websocket"}, receive, send)
    return clock.now - began


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ({"type": "websocket.receive", "bytes": bytes(2**20)}, 2**20),
        ({"type": "websocket.receive", "bytes": None, "text": "a" * 2**20}, 2**20),
        ({"type": "http.request", "body": bytes(2**20), "more_body": True}, 2**20),
        ({"type": "websocket.receive", "bytes": b""}, 0),
    ],
    ids=["bytes", "text", "body", "nothing"],
)
async def test_a_flood_is_read_no_faster_than_it_may_be(
    clock: Clock, message: Message, size: int
) -> None:
    number = 10_000
    counted = (number - 1) * (size + MESSAGE_BYTES)  # nobody waits for what the last one borrowed
    expected = (counted - BURST_BYTES) / BYTES_PER_S
    assert await seconds_to_read(clock, message, number) == pytest.approx(expected)


async def test_a_session_that_sends_what_it_may_never_waits(clock: Clock) -> None:
    """At most, of what can be configured."""
    number = MAX_MESSAGES_PER_S
    message = {"type": "websocket.receive", "bytes": bytes(MAX_INPUT_BYTES_PER_S // number)}
    seconds = await seconds_to_read(clock, message, 10 * number, every_s=1 / number)
    assert seconds == pytest.approx(10)


def test_a_session_that_sends_more_than_any_may_still_hears_of_it() -> None:
    assert FLOOD * MAX_MESSAGES_PER_S * MESSAGE_BYTES < BYTES_PER_S
    assert MAX_INPUT_BYTES_PER_S < BYTES_PER_S


async def test_who_does_not_wait_is_not_held_up_for_longer(clock: Clock) -> None:
    """What has passed since a message counts, and so does what was waited in vain."""
    large = {"type": "websocket.receive", "bytes": bytes(int(BURST_BYTES) + BYTES_PER_S)}
    due_s = 1 + MESSAGE_BYTES / BYTES_PER_S
    read: list[float] = []

    async def receive() -> Message:
        read.append(clock.now)
        return large

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        clock.now += due_s / 4
        clock.interrupted = True
        with pytest.raises(asyncio.CancelledError):
            await receive()  # for half of what is left
        clock.interrupted = False
        await receive()

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await Paced(application)({"type": "websocket"}, receive, send)
    assert read[1] - read[0] == pytest.approx(due_s)
