"""`glimpse.engine.loop`: whose turn it is, what is told of a step, and how a job ends early."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
import torch

from glimpse.engine.job import Posterior, Rows
from glimpse.engine.loop import Engine
from glimpse.errors import DeadlineExceeded
from glimpse.ports import DenoiseOptions, Priority, StepEvent
from glimpse.torch_thread import TorchThread
from tests.fakes import until
from tests.tiny_model import scheduler_config
from tests.unit.glimpse.engine.oracle import make_job


class FakeNetwork:
    """A network that predicts nothing, and stops before a step where a test says so."""

    device = torch.device("cpu")
    dtype = torch.float32
    latent_channels = 4
    latent_factor = 8

    def __init__(self) -> None:
        self.scheduler_config: Mapping[str, Any] = scheduler_config()
        self.begun: list[str] = []  # the conditioning of each job, in the order they began
        self.calls = 0
        self.fail_at: int | None = None
        self.hold_at: int | None = None  # the call that waits until it is free; None: all
        self.free = threading.Event()
        self.free.set()

    def rows(self, conditioning: Any, guided: bool, width: int, height: int) -> Rows:
        self.begun.append(conditioning)
        one = torch.zeros(2 if guided else 1, 1, 1)
        return Rows(one, one[0], one[0])

    def posterior(self, image: Any) -> Posterior:
        raise NotImplementedError

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        self.calls += 1
        if self.hold_at is None or self.calls == self.hold_at:
            assert self.free.wait(5)
        if self.calls == self.fail_at:
            raise RuntimeError("out of memory")
        return latents * 0.1


@pytest.fixture
def network() -> Iterator[FakeNetwork]:
    network = FakeNetwork()
    yield network
    network.free.set()


@pytest.fixture
def engine(network: FakeNetwork, torch_thread: TorchThread) -> Engine:
    return Engine(network, torch_thread)


def denoise(
    engine: Engine, name: str = "a", *, steps: int = 4, **changes: Any
) -> AsyncGenerator[StepEvent, None]:
    usual: dict[str, Any] = {
        "priority": Priority.INTERACTIVE,
        "deadline_s": None,
        "emit_at": frozenset(range(1, steps)),
    }
    options = DenoiseOptions(**(usual | changes))
    return engine.denoise(make_job(num_inference_steps=steps), name, None, options)


async def drain(stream: AsyncGenerator[StepEvent, None]) -> list[StepEvent]:
    async with asyncio.timeout(5):
        return [event async for event in stream]


async def test_every_step_is_told_and_only_what_was_asked_for(engine: Engine) -> None:
    events = await drain(
        denoise(engine, emit_denoised_at=frozenset({1, 3}), emit_state_at=frozenset({2}))
    )
    assert [(event.step, event.steps) for event in events] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [event.step for event in events if event.denoised is not None] == [1, 3]
    assert [event.step for event in events if event.state is not None] == [2]
    assert [event.step for event in events if event.latents is not None] == [4]
    assert [event.step for event in events if event.timings is not None] == [4]
    for array in (events[0].denoised, events[3].latents):
        assert array is not None
        assert array.shape == (4, 4, 8)
        assert array.dtype == np.float32
    assert engine.steps_run == 4


async def test_a_step_that_nobody_asked_for_is_not_told_of(engine: Engine) -> None:
    asked: dict[str, Any] = {"emit_denoised_at": frozenset({2}), "emit_state_at": frozenset({3})}
    events = await drain(denoise(engine, steps=5, emit_at=frozenset(), **asked))
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
    assert network.calls == 5


async def test_a_closed_stream_runs_no_further_step_and_lets_the_next_job_begin(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    network.hold_at = 3
    stream = denoise(engine, "a")
    await anext(stream)
    await anext(stream)
    await until(lambda: network.calls == 3)
    await stream.aclose()
    network.free.set()
    assert len(await drain(denoise(engine, "b"))) == 4
    assert network.calls == engine.steps_run == 3 + 4


async def test_a_job_cancelled_in_the_middle_of_a_step_runs_no_other(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    task = asyncio.create_task(drain(denoise(engine, "a")))
    await until(lambda: network.calls == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    following = asyncio.create_task(drain(denoise(engine, "b", steps=2)))
    network.free.set()
    assert len(await following) == 2
    assert network.calls == 1 + 2


async def test_jobs_take_turns_by_priority_then_deadline_then_age(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    waiting = [
        ("first", Priority.BACKGROUND, None),
        ("background", Priority.BACKGROUND, 1.0),
        ("no hurry, older", Priority.INTERACTIVE, None),
        ("no hurry", Priority.INTERACTIVE, None),
        ("some hurry", Priority.INTERACTIVE, 50.0),
        ("hurry", Priority.INTERACTIVE, 40.0),
        ("realtime", Priority.REALTIME, None),
    ]
    tasks = []
    for name, priority, deadline_s in waiting:
        stream = denoise(engine, name, steps=1, priority=priority, deadline_s=deadline_s)
        tasks.append(asyncio.create_task(drain(stream)))
        await asyncio.sleep(0)
    await until(lambda: network.calls == 1)
    assert engine.waiting == 6
    network.free.set()
    await asyncio.gather(*tasks)
    assert network.begun == [
        "first",
        "realtime",
        "hurry",
        "some hurry",
        "no hurry, older",
        "no hurry",
        "background",
    ]
    assert engine.waiting == 0


async def test_the_wait_for_a_turn_is_the_queue_time(engine: Engine, network: FakeNetwork) -> None:
    network.free.clear()
    first = asyncio.create_task(drain(denoise(engine, "a")))
    await until(lambda: network.calls == 1)
    second = asyncio.create_task(drain(denoise(engine, "b")))
    await asyncio.sleep(0.05)
    network.free.set()
    (_, _, _, of_first), (_, _, _, of_second) = await first, await second
    assert of_first.timings is not None and of_second.timings is not None
    assert of_first.timings.queue < 0.04 < of_first.timings.denoise
    assert of_second.timings.queue > 0.04


async def test_a_job_cancelled_while_it_waits_never_begins(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    first = asyncio.create_task(drain(denoise(engine, "a")))
    await until(lambda: network.calls == 1)
    second = asyncio.create_task(drain(denoise(engine, "b")))
    third = asyncio.create_task(drain(denoise(engine, "c")))
    await until(lambda: engine.waiting == 2)
    second.cancel()
    await asyncio.wait({second})
    assert engine.waiting == 1
    network.free.set()
    await asyncio.gather(first, third)
    assert network.begun == ["a", "c"]


async def test_a_job_cancelled_just_as_its_turn_comes_passes_it_on(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    network.hold_at = 2
    first = denoise(engine, "a")
    await anext(first)
    second = asyncio.create_task(drain(denoise(engine, "b")))
    third = asyncio.create_task(drain(denoise(engine, "c")))
    await until(lambda: engine.waiting == 2)
    await first.aclose()  # the second has its turn, and does not know it yet
    second.cancel()
    await asyncio.wait({second})
    network.free.set()
    assert len(await third) == 4
    assert network.begun == ["a", "c"]


async def test_past_its_deadline_a_job_stops_before_its_next_step(
    engine: Engine, network: FakeNetwork
) -> None:
    network.free.clear()
    task = asyncio.create_task(drain(denoise(engine, "a", deadline_s=0.02)))
    await until(lambda: network.calls == 1)
    await asyncio.sleep(0.03)
    network.free.set()
    with pytest.raises(DeadlineExceeded):
        await task
    assert network.calls == 1
    assert len(await drain(denoise(engine, "b", deadline_s=5))) == 4


async def test_a_step_that_fails_ends_its_job_and_no_other(
    engine: Engine, network: FakeNetwork
) -> None:
    network.fail_at = 2
    with pytest.raises(RuntimeError, match="out of memory"):
        await drain(denoise(engine, "a"))
    assert len(await drain(denoise(engine, "b"))) == 4
    assert network.begun == ["a", "b"]


async def test_a_job_that_cannot_begin_gives_its_turn_back(
    engine: Engine, network: FakeNetwork
) -> None:
    with pytest.raises(ValueError):
        await drain(denoise(engine, "a", resume_from=b"no state of anything"))
    assert len(await drain(denoise(engine, "b"))) == 4
