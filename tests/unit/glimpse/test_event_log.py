"""`glimpse.event_log`: what readers see of a generation, early, late and slow ones."""

import asyncio

import pytest

from glimpse.errors import GlimpseError
from glimpse.event_log import (
    Accepted,
    Cancelled,
    Event,
    EventLog,
    Failed,
    Final,
    Preview,
    Step,
    Timings,
)
from glimpse.ports import Picture

PICTURE = Picture(b"", "image/jpeg", 8, 8)
FINAL = Final(9, (PICTURE,), Timings(0, 0, 0, 0, 0), 0)


def preview(step: int) -> Preview:
    return Preview(step, 9, PICTURE)


async def read_all(log: EventLog, after: int = 0) -> list[tuple[int, Event]]:
    return [item async for item in log.read(after)]


async def test_events_are_numbered_from_one_and_read_in_order() -> None:
    log = EventLog(10)
    assert [log.append(event) for event in (Accepted(), Step(1, 9), FINAL)] == [1, 2, 3]
    assert await read_all(log) == [(1, Accepted()), (2, Step(1, 9)), (3, FINAL)]


async def test_a_reader_that_comes_back_goes_on_after_what_it_has() -> None:
    log = EventLog(10)
    for event in (Accepted(), Step(1, 9), Step(2, 9), FINAL):
        log.append(event)
    assert await read_all(log, after=2) == [(3, Step(2, 9)), (4, FINAL)]


@pytest.mark.parametrize("ending", [FINAL, Failed(GlimpseError()), Cancelled()])
async def test_nothing_can_be_written_after_an_ending(ending: Event) -> None:
    log = EventLog(10)
    log.append(Accepted())
    assert not log.ended
    log.append(ending)
    assert log.ended
    with pytest.raises(RuntimeError, match="Step comes too late"):
        log.append(Step(1, 9))
    assert [event for _, event in await read_all(log)] == [Accepted(), ending]


async def test_a_full_log_forgets_the_oldest_passing_events_never_the_first_or_last() -> None:
    log = EventLog(3)
    for event in (Accepted(), Step(1, 9), preview(1), Step(2, 9), Step(3, 9), FINAL):
        log.append(event)
    assert await read_all(log) == [(1, Accepted()), (5, Step(3, 9)), (6, FINAL)]


def test_a_log_has_room_for_a_first_a_passing_and_a_last_event() -> None:
    with pytest.raises(ValueError, match="room"):
        EventLog(2)


async def test_a_late_reader_gets_only_the_newest_preview_and_every_step() -> None:
    log = EventLog(10)
    events = (Accepted(), Step(1, 9), preview(1), Step(2, 9), preview(2), Step(3, 9), FINAL)
    for event in events:
        log.append(event)
    seen = [event for _, event in await read_all(log)]
    assert seen == [Accepted(), Step(1, 9), Step(2, 9), preview(2), Step(3, 9), FINAL]


async def test_a_slow_reader_skips_a_preview_that_was_overtaken_while_it_was_away() -> None:
    log = EventLog(10)
    events = log.read()
    log.append(Accepted())
    log.append(preview(1))
    assert (await anext(events))[1] == Accepted()
    log.append(preview(2))  # comes while the reader has yet to ask for preview 1
    log.append(FINAL)
    assert [event async for _, event in events] == [preview(2), FINAL]


async def test_readers_wait_for_news_each_on_its_own() -> None:
    log = EventLog(10)
    readers = [asyncio.create_task(read_all(log)) for _ in range(2)]
    for event in (Accepted(), preview(1), FINAL):
        await asyncio.sleep(0.001)
        log.append(event)
    for reader in readers:
        async with asyncio.timeout(1):
            assert [event for _, event in await reader] == [Accepted(), preview(1), FINAL]
