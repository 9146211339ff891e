"""An engine whose torch thread stands still, on a clock of its own: who is told, and when."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from glimpse.batches import Batches
from glimpse.engine.loop import Engine
from glimpse.errors import StageStalled
from glimpse.ports import Priority
from glimpse.stage import failing_as
from glimpse.torch_thread import TorchThread
from glimpse.watch import INTERVAL_S, Bounds, Stalled, Watch, phase
from tests.fakes import until
from tests.unit.glimpse.engine.fake_network import (
    FakeNetwork,
    arrived,
    denoise,
    drain,
    started,
)
from tests.unit.glimpse.hold import held


class Clock:
    """Stands still but for what a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.share = 1.0
        bounds = Bounds(stall_s=5, recording_s=120)
        self.watch = Watch(bounds, clock=lambda: self.now, share=lambda: self.share)

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += INTERVAL_S
            self.watch.poll()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def thread(clock: Clock, network: FakeNetwork) -> Iterator[TorchThread]:
    thread = TorchThread(1, clock.watch)
    yield thread
    network.free.set()
    thread.close()


@pytest.fixture
def engine(network: FakeNetwork, thread: TorchThread, clock: Clock) -> Engine:
    return Engine(network, thread, row_budget=4, clock=lambda: clock.now)


async def test_every_job_of_a_hung_step_is_told_at_once_and_is_gone_afterwards(
    engine: Engine, thread: TorchThread, network: FakeNetwork, clock: Clock
) -> None:
    network.free.clear()
    async with held(thread):
        told, one_answer = started(engine, "a"), started(engine, "b", emit_at=frozenset())
        await arrived(engine, 2)
    await until(lambda: len(network.calls) == 1)
    waiting = started(engine, "c")  # for rows, were it not for the hang
    await arrived(engine, 1)
    clock.passes(4)
    await asyncio.sleep(0)
    assert not any(job.done() for job in (told, one_answer, waiting))
    clock.passes(1.5)
    for job in (told, one_answer, waiting):
        with pytest.raises(StageStalled):
            await job
    assert engine.counters["stalled"] == 1
    with pytest.raises(StageStalled):
        await drain(denoise(engine, "while it hangs"))
    assert network.calls == [["a", "b"]]
    network.free.set()
    await until(lambda: engine.counters["running"] + engine.counters["waiting"] == 0)
    clock.passes(INTERVAL_S)
    assert engine.counters["stalled"] == 0
    assert len(await drain(denoise(engine, "d"))) == 4
    assert {name for names in network.calls[1:] for name in names} == {"d"}


async def test_a_hang_in_mid_stream_is_found_though_steps_were_told_before(
    engine: Engine, network: FakeNetwork, clock: Clock
) -> None:
    network.hold_at = 3
    network.free.clear()
    async with aclosing(denoise(engine, "a")) as stream:
        assert [(await anext(stream)).step, (await anext(stream)).step] == [1, 2]
        await until(lambda: len(network.calls) == 3)
        clock.passes(INTERVAL_S)  # the ticks before
        clock.passes(5)
        with pytest.raises(StageStalled):
            await anext(stream)


async def test_a_starved_step_is_no_hung_one(
    engine: Engine, network: FakeNetwork, clock: Clock
) -> None:
    network.free.clear()
    job = started(engine, "a")
    await until(lambda: len(network.calls) == 1)
    clock.share = 0.01
    clock.passes(90)
    network.free.set()
    assert len(await job) == 4


async def test_a_step_that_records_is_no_hung_one_until_that_takes_too_long(
    engine: Engine, network: FakeNetwork, clock: Clock
) -> None:
    held = threading.Event()
    free = threading.Event()

    def trouble(names: list[str]) -> None:
        if names == ["long"] or not held.is_set():
            with phase("recording"):
                held.set()
                assert free.wait(5)

    network.trouble = trouble
    job = started(engine, "a")
    assert await asyncio.to_thread(held.wait, 5)
    clock.passes(110)
    free.set()
    assert len(await job) == 4
    free.clear()
    held.clear()
    late = started(engine, "long")
    assert await asyncio.to_thread(held.wait, 5)
    clock.passes(125)
    with pytest.raises(StageStalled):
        await late
    free.set()


async def test_jobs_that_wait_for_rows_or_for_their_class_are_not_stalled(
    engine: Engine, network: FakeNetwork, clock: Clock
) -> None:
    passed: list[float] = []

    def trouble(names: list[str]) -> None:
        clock.passes(2.5)  # every step takes half of what a stall does
        passed.append(clock.now)

    network.trouble = trouble
    pictures = [started(engine, f"picture {n}") for n in range(8)]
    background = started(engine, "background", priority=Priority.BACKGROUND)
    realtime = [
        started(engine, f"now {n}", priority=Priority.REALTIME, job={"width": 128})
        for n in range(4)
    ]
    for events in await asyncio.gather(*pictures, background, *realtime):
        assert len(events) == 4
    assert passed[-1] > 40 and clock.watch.stalls == 0


async def test_an_engine_whose_tick_was_lost_is_found_beside_other_work(
    engine: Engine, thread: TorchThread, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._mailbox, "_post_tick", lambda: None)
    job = started(engine, "a")
    await arrived(engine, 1)
    while not clock.watch.stalled:
        await thread.run(int)
        clock.passes(1)
    assert clock.now <= 7
    with pytest.raises(StageStalled):
        await job


async def test_a_job_that_has_been_told_all_is_no_work_while_its_reader_dawdles(
    engine: Engine, thread: TorchThread, clock: Clock
) -> None:
    async with aclosing(denoise(engine, "a", emit_at=frozenset())) as stream:
        assert (await anext(stream)).latents is not None
        await until(lambda: not thread._pending)
        clock.passes(60)
    assert clock.watch.stalls == 0


@pytest.fixture
def hold(thread: TorchThread) -> Iterator[Callable[[], None]]:
    """Hangs the thread until the test has ended."""
    free = threading.Event()
    yield lambda: thread.post(free.wait, 5)
    free.set()


async def test_who_waits_for_a_hung_thread_is_told(
    thread: TorchThread, clock: Clock, hold: Callable[[], None]
) -> None:
    calls: list[list[str]] = []

    def work(texts: list[str]) -> list[str]:
        calls.append(texts)
        return texts

    batches: Batches[str, str] = Batches(thread, work, most=lambda text: 8)
    hold()
    waiting: list[asyncio.Task[Any]] = [
        asyncio.create_task(batches.run("a")),
        asyncio.create_task(thread.run(calls.append, ["b"])),
    ]
    await asyncio.sleep(0)
    clock.passes(6)
    for task in waiting:
        with pytest.raises(Stalled):
            await task
    with pytest.raises(StageStalled, match="image_decode"), failing_as("r", "image_decode"):
        await batches.run("c")
    assert calls == []


async def test_who_is_cancelled_while_the_thread_hangs_is_cancelled(
    thread: TorchThread, clock: Clock, hold: Callable[[], None]
) -> None:
    hold()
    task = asyncio.create_task(thread.run(int))
    await asyncio.sleep(0)
    clock.passes(6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_load_that_takes_too_long_fails_its_constructor() -> None:
    free = threading.Event()
    thread = TorchThread(1, Watch(Bounds(loading_s=0.01)))
    with pytest.raises(TimeoutError, match="loading took longer than 0.01 s"):
        thread.call(free.wait, 5)
    free.set()
    thread.close()


def test_loading_is_a_phase(thread: TorchThread, clock: Clock) -> None:
    clock.watch.bounds = Bounds(stall_s=5, loading_s=900)
    thread.call(clock.passes, 800)
    assert clock.watch.stalls == 0
