"""Drives jobs through the network, one after another, on the process's torch thread."""

import asyncio
import dataclasses
import heapq
import itertools
import math
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import torch

from glimpse.engine import checkpoint, reference
from glimpse.engine.job import Network, RunningJob
from glimpse.errors import DeadlineExceeded
from glimpse.ports import DenoiseOptions, DenoiseTimings, Job, Priority, StepEvent
from glimpse.tensors import to_array
from glimpse.torch_thread import TorchThread


class Engine:
    """Runs one job at a time; the others wait by priority, then deadline, then age."""

    def __init__(self, network: Network, thread: TorchThread) -> None:
        self._network = network
        self._thread = thread
        self._turns = _Turns()
        self.steps_run = 0

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return self._turns.waiting

    async def denoise(
        self,
        job: Job,
        conditioning: Any,
        image: Any,
        options: DenoiseOptions,
    ) -> AsyncGenerator[StepEvent, None]:
        """Steps a job, and tells of the steps that were asked for and of the last. Closing the
        generator, or cancelling the task that waits on it, is seen before the next step.

        The thread goes from step to step by itself, so that the device never waits for the event
        loop.
        """
        arrived = time.monotonic()
        deadline = math.inf if options.deadline_s is None else arrived + options.deadline_s
        async with self._turns.turn(options.priority, deadline):
            began = time.monotonic()
            events: asyncio.Queue[StepEvent | None] = asyncio.Queue()
            loop = asyncio.get_running_loop()
            closed = threading.Event()

            def tell(event: StepEvent) -> None:
                loop.call_soon_threadsafe(events.put_nowait, event)

            def ended(working: asyncio.Future[None]) -> None:
                if not working.cancelled():
                    working.exception()  # nobody may be left to look at it
                events.put_nowait(None)

            working = asyncio.ensure_future(
                self._thread.run(
                    self._run, job, conditioning, image, options, deadline, tell, closed
                )
            )
            working.add_done_callback(ended)
            try:
                while (event := await events.get()) is not None:
                    if event.latents is not None:
                        timings = DenoiseTimings(began - arrived, time.monotonic() - began)
                        event = dataclasses.replace(event, timings=timings)
                    yield event
                await working
            finally:
                closed.set()

    def _run(
        self,
        job: Job,
        conditioning: Any,
        image: Any,
        options: DenoiseOptions,
        deadline: float,
        tell: Callable[[StepEvent], object],
        closed: threading.Event,
    ) -> None:
        """On the torch thread: a job to its end, its deadline or its closing."""
        if closed.is_set():
            return
        running = reference.begin(job, conditioning, image, self._network, options.resume_from)
        while not running.done and not closed.is_set():
            if time.monotonic() > deadline:
                raise DeadlineExceeded("The picture was not ready before its deadline.")
            denoised = reference.advance(running, self._network)
            self.steps_run += 1
            if running.done or running.index in options.told:
                tell(_event(running, denoised, options))


def _event(job: RunningJob, denoised: torch.Tensor, options: DenoiseOptions) -> StepEvent:
    """What there is to tell of the step that a job has just made."""
    return StepEvent(
        step=job.index,
        steps=len(job.solver),
        denoised=to_array(denoised[0].float()) if job.index in options.emit_denoised_at else None,
        state=checkpoint.save(job) if job.index in options.emit_state_at else None,
        latents=to_array(job.latents[0].float()) if job.done else None,
    )


class _Turns:
    """One at a time, the most urgent first."""

    def __init__(self) -> None:
        self._taken = False
        self._heap: list[tuple[Priority, float, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @property
    def waiting(self) -> int:
        return sum(not turn.done() for *_, turn in self._heap)

    @asynccontextmanager
    async def turn(self, priority: Priority, deadline: float) -> AsyncIterator[None]:
        await self._take(priority, deadline)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, priority: Priority, deadline: float) -> None:
        if not self._taken:
            self._taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (priority, deadline, next(self._arrivals), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # cancelled just after it got its turn
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._heap:
            *_, turn = heapq.heappop(self._heap)
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False
