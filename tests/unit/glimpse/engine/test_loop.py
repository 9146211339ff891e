"""`glimpse.engine.loop`: who shares a call, what is told of a step, and how a job ends early."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from glimpse.engine.loop import Engine
from glimpse.errors import DeadlineExceeded, StageFailed
from glimpse.meter import Unmetered
from glimpse.ports import Priority, StepEvent
from glimpse.torch_thread import TorchThread
from tests.fakes import until
from tests.unit.glimpse.engine.fake_network import (
    FakeCopies,
    FakeNetwork,
    arrived,
    denoise,
    drain,
    raising_once,
    started,
)


@pytest.fixture
def network() -> Iterator[FakeNetwork]:
    network = FakeNetwork()
    yield network
    network.free.set()


@pytest.fixture
def engine(network: FakeNetwork, torch_thread: TorchThread) -> Engine:
    return Engine(network, torch_thread, row_budget=8)


@pytest.fixture
def copies() -> FakeCopies:
    return FakeCopies()


@pytest.fixture
def copying(network: FakeNetwork, torch_thread: TorchThread, copies: FakeCopies) -> Engine:
    return Engine(network, torch_thread, row_budget=8, copies=copies)


async def test_every_step_is_told_and_only_what_was_asked_for(engine: Engine) -> None:
    events = await drain(
        denoise(engine, emit_denoised_at=frozenset({1, 3}), emit_state_at=frozenset({2}))
    )
    assert [(event.step, event.steps) for event in events] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [event.step for event in events if event.denoised is not None] == [1, 3]
    assert [event.step for event in events if event.state is not None] == [2]
    assert [event.step for event in events if event.latents is not None] == [4]
    assert [event.denoise_s for event in events] == sorted(
        event.denoise_s or -1 for event in events
    )
    for array in (events[0].denoised, events[3].latents):
        assert array is not None
        assert array.shape == (4, 4, 8)
        assert array.dtype == np.float32
    counters = engine.counters
    assert (counters["steps_run"], counters["ticks"], counters["rows_run"]) == (4, 4, 8)


async def test_a_step_that_nobody_asked_for_is_not_told_of(engine: Engine) -> None:
    asked: dict[str, Any] = {"emit_denoised_at": frozenset({2}), "emit_state_at": frozenset({3})}
    steps = {"num_inference_steps": 5}
    events = await drain(denoise(engine, job=steps, emit_at=frozenset(), **asked))
    assert [event.step for event in events] == [2, 3, 5]


async def test_what_was_told_of_a_step_does_not_change_with_the_next(engine: Engine) -> None:
    stream = denoise(engine, emit_denoised_at=frozenset({1}))
    async with aclosing(stream):
        denoised = (await anext(stream)).denoised
        assert denoised is not None
        before = denoised.copy()
        await drain(stream)
        assert np.array_equal(denoised, before)


async def test_a_job_goes_on_where_another_engine_left_off(
    engine: Engine, network: FakeNetwork
) -> None:
    whole = await drain(denoise(engine, emit_state_at=frozenset({3})))
    rest = await drain(denoise(engine, resume_from=whole[2].state))
    assert [event.step for event in rest] == [4]
    assert rest[0].latents is not None and whole[3].latents is not None
    assert np.array_equal(rest[0].latents, whole[3].latents)
    assert network.steps == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
async def test_a_job_goes_on_exactly_in_half_precision_too(
    engine: Engine, network: FakeNetwork, dtype: torch.dtype
) -> None:
    network.dtype = dtype
    whole = await drain(denoise(engine, emit_state_at=frozenset({2})))
    state = whole[1].state
    assert state is not None and safetensors.torch.load(state)["latents"].dtype == dtype
    [*_, last] = await drain(denoise(engine, resume_from=state))
    assert last.latents is not None and whole[3].latents is not None
    assert np.array_equal(last.latents, whole[3].latents)


async def test_no_step_waits_for_a_checkpoint_on_its_way(
    copying: Engine, network: FakeNetwork, copies: FakeCopies
) -> None:
    on_host = threading.Event()
    copies.there = on_host.is_set
    copies.trouble = lambda: on_host.wait(5)
    job = started(copying, emit_at=frozenset(), emit_state_at=frozenset({1, 3}))
    await until(lambda: network.steps == 4)
    assert not job.done()
    on_host.set()
    events = await job
    assert [(event.step, event.state is not None) for event in events] == [
        (1, True),
        (3, True),
        (4, False),
    ]
    assert events[0].state is not None
    assert safetensors.torch.load(events[0].state)["latents"].shape == (1, 4, 4, 8)


async def test_where_steps_are_slow_checkpoints_go_by_time_as_well(
    network: FakeNetwork, torch_thread: TorchThread
) -> None:
    engine = Engine(network, torch_thread, row_budget=8, clock=lambda: float(len(network.calls)))
    asked: dict[str, Any] = {"emit_at": frozenset(), "emit_state_every_s": 2.0}
    job = {"num_inference_steps": 9}
    events = await drain(denoise(engine, job=job, emit_state_at=frozenset({1, 4}), **asked))
    assert [(event.step, event.state is not None) for event in events] == [
        (1, True),
        (3, True),
        (4, True),
        (6, True),
        (8, True),
        (9, False),
    ]
    assert [event.denoise_s for event in events] == [1, 3, 4, 6, 8, 9]
    events = await drain(denoise(engine, job=job, emit_state_at=frozenset(), **asked))
    assert [event.step for event in events if event.state is not None] == [2, 4, 6, 8]
    [only] = await drain(denoise(engine, job=job, emit_at=frozenset()))
    assert only.step == 9 and only.state is None


async def test_jobs_join_and_leave_at_any_step_and_share_calls(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    network.hold_at = 2
    tasks = [started(engine, "a")]
    await until(lambda: len(network.calls) == 2)
    tasks += [
        started(engine, "b", job={"scheduler": "dpmpp_2m", "num_inference_steps": 3}),
        started(engine, "c", job={"guidance_scale": 1.0, "num_inference_steps": 1}),
    ]
    await arrived(engine, 2)
    network.free.set()
    assert [len(events) for events in await asyncio.gather(*tasks)] == [4, 3, 1]
    assert network.calls == [["a"], ["a"], ["a", "b", "c"], ["a", "b"], ["b"]]
    assert engine.counters["rows_run"] == 2 + 2 + 5 + 4 + 2


async def test_no_call_exceeds_the_budget_and_what_is_left_over_waits(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    tasks = [started(engine, "a")]
    await until(lambda: len(network.calls) == 1)
    tasks += [started(engine, name) for name in "bcdef"]
    await arrived(engine, 5)
    network.free.set()
    await asyncio.gather(*tasks)
    assert network.calls[1:4] == [["a", "b", "c", "d"]] * 3
    assert network.calls[4] == ["b", "c", "d", "e"]
    assert engine.counters["waiting"] == engine.counters["running"] == 0


async def test_jobs_of_different_sizes_take_turns(engine: Engine, network: FakeNetwork) -> None:
    network.free.clear()
    tasks = [started(engine, "a")]
    await until(lambda: len(network.calls) == 1)
    tasks += [started(engine, "wide", job={"width": 128}), started(engine, "b")]
    await arrived(engine, 2)
    network.free.set()
    await asyncio.gather(*tasks)
    assert network.calls[1:5] == [["a", "b"], ["wide"], ["a", "b"], ["wide"]]


async def test_a_realtime_job_steps_next_and_alone_where_it_fits_no_other(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    priority = Priority.BACKGROUND
    tasks = [started(engine, str(n), priority=priority) for n in range(16)]
    await until(lambda: len(network.calls) == 1)
    tasks.append(
        started(engine, "now", job={"height": 64}, priority=Priority.REALTIME, emit_at=frozenset())
    )
    await until(lambda: len(engine._mailbox) >= 1)
    network.free.set()
    await asyncio.gather(*tasks)
    assert network.calls[1] == ["now"]


async def test_the_one_picture_of_an_owner_is_ready_before_the_many_of_another(
    engine: Engine, network: FakeNetwork
) -> None:
    """Four jobs share a call, and the many fill six of them with every step."""
    network.free.clear()
    many = [started(engine, "many 0", owner="many")]
    await until(lambda: len(network.calls) == 1)
    many += [started(engine, f"many {n}", owner="many") for n in range(1, 24)]
    await arrived(engine, 23)
    one = started(engine, "one", owner="one")
    await arrived(engine, 24)
    network.free.set()
    assert len(await one) == 4
    await asyncio.gather(*many)
    assert [n for n, names in enumerate(network.calls) if "one" in names] == [1, 2, 3, 4]


async def test_a_job_steps_alone_up_to_the_step_that_it_is_to_prove(
    engine: Engine, network: FakeNetwork
) -> None:
    state = (await drain(denoise(engine, "a", emit_state_at=frozenset({1}))))[0].state
    network.calls.clear()
    network.free.clear()
    tasks = [started(engine, "first")]
    await until(lambda: len(network.calls) == 1)
    tasks += [
        started(engine, "suspect", resume_from=state, alone_until=3),
        started(engine, "now", priority=Priority.REALTIME),
        started(engine, "another", alone_until=1),
    ]
    await arrived(engine, 3)
    network.free.set()
    assert [len(events) for events in await asyncio.gather(*tasks)] == [4, 3, 4, 4]
    assert network.calls[1:5] == [
        ["suspect"],
        ["suspect"],
        ["another"],
        ["now", "first", "suspect", "another"],
    ]


async def test_a_job_that_breaks_the_call_alone_fails_and_lets_the_others_go_on(
    engine: Engine, network: FakeNetwork
) -> None:
    def trouble(names: list[str]) -> None:
        if "suspect" in names:
            raise RuntimeError("a fault of one job")

    network.trouble = trouble
    network.free.clear()
    first = started(engine, "first")
    await until(lambda: len(network.calls) == 1)
    suspect = started(engine, "suspect", alone_until=4)
    await arrived(engine, 1)
    network.free.set()
    with pytest.raises(RuntimeError):
        await suspect
    assert len(await first) == 4
    assert ["first", "suspect"] not in network.calls


async def test_a_closed_stream_runs_no_further_step(engine: Engine, network: FakeNetwork) -> None:
    network.free.clear()
    network.hold_at = 3
    stream = denoise(engine, "a")
    await anext(stream)
    await anext(stream)
    await until(lambda: len(network.calls) == 3)
    await stream.aclose()
    network.free.set()
    assert len(await drain(denoise(engine, "b"))) == 4
    assert network.calls == [["a"]] * 3 + [["b"]] * 4


async def test_a_job_cancelled_in_the_middle_of_a_step_runs_no_other(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    task = started(engine, "a")
    await until(lambda: len(network.calls) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    following = started(engine, "b", emit_at=frozenset())
    network.free.set()
    assert len(await following) == 1
    assert network.calls == [["a"]] + [["b"]] * 4
    assert engine.counters["running"] == 0


async def test_a_job_cancelled_before_its_first_step_never_begins(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    first = started(engine, "a")
    await until(lambda: len(network.calls) == 1)
    second, third = started(engine, "b"), started(engine, "c")
    await arrived(engine, 2)
    second.cancel()
    await asyncio.wait({second})
    network.free.set()
    await asyncio.gather(first, third)
    assert network.names == ["a", "c"]


async def test_the_wait_for_the_first_step_is_no_time_of_denoising(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    first = started(engine, "a")
    await until(lambda: len(network.calls) == 1)
    began = time.monotonic()
    second = started(engine, "b")
    await arrived(engine, 1)
    await asyncio.sleep(0.05)
    network.free.set()
    of_first, of_second = (await first)[-1].denoise_s, (await second)[-1].denoise_s
    assert of_first is not None and of_second is not None
    assert of_first > 0.04
    assert of_second < time.monotonic() - began - 0.04


async def test_a_deadline_does_not_wait_for_the_step_under_way(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    first = started(engine, "first")
    await until(lambda: len(network.calls) == 1)
    with pytest.raises(DeadlineExceeded, match="not ready before its deadline"):
        await drain(denoise(engine, "a", deadline_s=0.02))
    assert not network.free.is_set()
    network.free.set()
    assert len(await first) == 4
    assert network.calls == [["first"]] * 4
    assert engine.counters["running"] == engine.counters["waiting"] == 0


async def test_past_its_deadline_a_job_stops_before_its_next_step(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    late, other = started(engine, "a", deadline_s=0.02), started(engine, "b", deadline_s=5)
    await until(lambda: len(network.calls) == 1)
    await asyncio.sleep(0.03)
    network.free.set()
    with pytest.raises(DeadlineExceeded):
        await late
    assert len(await other) == 4
    assert sum("a" in names for names in network.calls) <= 1


async def together(engine: Engine, network: FakeNetwork, *names: str) -> list[Any]:
    """Jobs that share every call, after one of "first" alone; how each ends."""
    network.free.clear()
    first = started(engine, "first", job={"num_inference_steps": 1})
    await until(lambda: len(network.calls) == 1)
    tasks = [started(engine, name) for name in names]
    await arrived(engine, len(names))
    network.free.set()
    assert len(await first) == 1
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_call_that_fails_once_is_made_up_for_one_by_one(
    engine: Engine, network: FakeNetwork
) -> None:
    def trouble(names: list[str]) -> None:
        if len(network.calls) == 3:
            raise RuntimeError("a passing fault")

    network.trouble = trouble
    ends = await together(engine, network, "a", "b")
    assert [len(events) for events in ends] == [4, 4]
    assert network.calls[2:6] == [["a", "b"], ["a"], ["b"], ["a", "b"]]


async def test_a_job_that_breaks_the_call_fails_alone(engine: Engine, network: FakeNetwork) -> None:
    def trouble(names: list[str]) -> None:
        if "bad" in names:
            raise RuntimeError("a fault of one row")

    network.trouble = trouble
    one, bad, two = await together(engine, network, "one", "bad", "two")
    assert len(one) == len(two) == 4
    assert isinstance(bad, RuntimeError)
    assert network.calls[5:] == [["one", "two"]] * 3
    assert engine.counters["running"] == 0


async def test_a_picture_that_becomes_nan_fails_alone(engine: Engine, network: FakeNetwork) -> None:
    one, bad = await together(engine, network, "one", "NaN")
    assert len(one) == 4
    assert isinstance(bad, StageFailed) and "NaN or infinite after step 4" in bad.message


async def test_a_picture_that_becomes_nan_steps_no_further_than_where_it_is_shown(
    engine: Engine, network: FakeNetwork
) -> None:
    with pytest.raises(StageFailed, match="after step 2"):
        await drain(denoise(engine, "NaN", emit_denoised_at=frozenset({2})))
    assert network.steps == 2


async def test_a_job_that_cannot_begin_fails_alone(engine: Engine, network: FakeNetwork) -> None:
    one, bad = await together(engine, network, "one", "cannot begin")
    assert len(one) == 4
    assert isinstance(bad, ValueError)
    with pytest.raises(ValueError):
        await drain(denoise(engine, "a", resume_from=b"no state of anything"))


async def test_out_of_memory_halves_the_budget_and_loses_no_job(
    engine: Engine, network: FakeNetwork
) -> None:
    def trouble(names: list[str]) -> None:
        if len(names) > 2:
            raise torch.OutOfMemoryError

    network.trouble = trouble
    ends = await together(engine, network, "a", "b", "c", "d")
    assert [len(events) for events in ends] == [4] * 4
    assert network.calls[1:3] == [["a", "b", "c", "d"], ["a", "b"]]
    assert max(len(names) for names in network.calls[2:]) == 2
    assert engine.counters["row_budget"] == 4
    assert engine.counters["steps_run"] == 1 + 4 * 4


async def test_a_job_that_does_not_fit_by_itself_is_told_so(
    engine: Engine, network: FakeNetwork
) -> None:
    def trouble(names: list[str]) -> None:
        if "large" in names:
            raise torch.OutOfMemoryError

    network.trouble = trouble
    small, large = await together(engine, network, "small", "large")
    assert len(small) == 4
    assert isinstance(large, StageFailed) and "ask for a smaller one" in large.message


async def test_a_fault_of_the_engine_leaves_nobody_waiting(
    engine: Engine, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(engine._batcher, "commit", broken)
        tasks = [started(engine, name) for name in "ab"]
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(end, StageFailed)
    assert len(await drain(denoise(engine, "a"))) == 4


async def test_a_result_that_cannot_be_copied_fails_its_own_job_alone(
    copying: Engine, copies: FakeCopies, caplog: pytest.LogCaptureFixture
) -> None:
    copies.trouble = raising_once(RuntimeError("CUDA error: an illegal memory access"))
    bad = started(copying, "bad", emit_denoised_at=frozenset({2}))
    one = started(copying, "one")
    with pytest.raises(StageFailed) as caught:
        await bad
    assert len(await one) == 4
    assert "illegal" not in caught.value.message and "illegal memory access" in caplog.text
    assert len(await drain(denoise(copying, "b"))) == 4
    assert copying.counters["running"] == copying.counters["waiting"] == 0


async def test_a_copy_that_cannot_be_asked_for_fails_its_own_job_alone(
    copying: Engine, copies: FakeCopies
) -> None:
    failing = raising_once(RuntimeError("CUDA error: an illegal memory access"))

    def there() -> bool:
        failing()
        return True

    copies.there = there
    with pytest.raises(StageFailed):
        await drain(denoise(copying, "a", emit_denoised_at=frozenset({1})))
    assert len(await drain(denoise(copying, "b"))) == 4


async def test_a_job_that_cannot_be_admitted_fails_alone(
    engine: Engine, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = engine._batcher.admit

    def choosy(entry: Any) -> None:
        if entry.key == 1:
            raise RuntimeError("a fault of ours")
        admit(entry)

    monkeypatch.setattr(engine._batcher, "admit", choosy)
    bad, one = await together(engine, network, "bad", "one")
    assert isinstance(bad, StageFailed) and len(one) == 4


class Closable(asyncio.SelectorEventLoop):
    """Takes nothing from other threads once it is `shut`, as one that is closed."""

    shut = False

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        if self.shut:
            raise RuntimeError("Event loop is closed")
        return super().call_soon_threadsafe(*args, **options)


def test_a_job_whose_event_loop_is_closed_takes_nobody_along(
    engine: Engine, network: FakeNetwork
) -> None:
    async def begun() -> asyncio.Task[list[StepEvent]]:
        task = started(engine, "gone")
        await until(lambda: len(network.calls) == 1)
        return task

    async def cancelled(task: asyncio.Task[Any]) -> None:
        task.cancel()
        await asyncio.wait({task})

    network.free.clear()
    gone = Closable()
    with asyncio.Runner(loop_factory=lambda: gone) as closing, asyncio.Runner() as runner:
        task = closing.run(begun())
        gone.shut = True
        network.free.set()
        assert len(runner.run(drain(denoise(engine, "b")))) == 4
        assert network.calls[1:] == [["b"]] * 4
        gone.shut = False
        closing.run(cancelled(task))


async def test_a_thread_that_takes_nothing_is_asked_again(
    engine: Engine, torch_thread: TorchThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(torch_thread, "post", broken)
        with pytest.raises(RuntimeError, match="new thread"):
            await drain(denoise(engine, "a"))
    assert len(await drain(denoise(engine, "b"))) == 4
    assert engine.counters["running"] == engine.counters["waiting"] == 0


async def test_a_job_that_has_ended_wakes_nobody(
    engine: Engine, torch_thread: TorchThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = torch_thread.post
    posted: list[object] = []

    def posting(function: Callable[..., object], *args: object) -> None:
        posted.append(function)
        post(function, *args)

    monkeypatch.setattr(torch_thread, "post", posting)
    await drain(denoise(engine, "a"))
    with pytest.raises(ValueError):
        await drain(denoise(engine, "cannot begin"))
    await torch_thread.run(lambda: None)
    assert len(posted) == 4 + 1  # ticks: what would leave has left


class FakeMeter(Unmetered):
    def __init__(self) -> None:
        self.ticks: list[tuple[float, int]] = []
        self.steps: list[float] = []

    def tick(self, seconds: float, rows: int) -> None:
        self.ticks.append((seconds, rows))

    def step(self, seconds: float) -> None:
        self.steps.append(seconds)


async def test_ticks_and_steps_are_metered(network: FakeNetwork, torch_thread: TorchThread) -> None:
    meter = FakeMeter()
    clock = 0.0

    def trouble(names: list[str]) -> None:
        nonlocal clock
        clock += 0.5

    network.trouble = trouble
    engine = Engine(network, torch_thread, row_budget=8, meter=meter, clock=lambda: clock)
    events = await drain(denoise(engine, "a", emit_state_at=frozenset({3})))
    assert meter.ticks == [(0.5, 2)] * 4 and meter.steps == [0.5]
    await drain(denoise(engine, "b", emit_at=frozenset(), resume_from=events[2].state))
    assert meter.ticks == [(0.5, 2)] * 5 and meter.steps == [0.5, 0.5]
    with pytest.raises(ValueError):
        await drain(denoise(engine, "cannot begin"))
    assert len(meter.steps) == 2
