"""Drives jobs through the network, one after another, on the process's torch thread."""

import asyncio
import dataclasses
import heapq
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

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
        """Steps a job and tells of each step. Closing the generator, or cancelling the task that
        waits on it, is seen before the next step.
        """
        arrived = time.monotonic()
        deadline = None if options.deadline_s is None else arrived + options.deadline_s
        async with self._turns.turn(options.priority, deadline):
            began = time.monotonic()
            running = await self._thread.run(
                reference.begin, job, conditioning, image, self._network, options.resume_from
            )
            while not running.done:
                if deadline is not None and time.monotonic() > deadline:
                    raise DeadlineExceeded("The picture was not ready before its deadline.")
                event = await self._thread.run(self._step, running, options)
                if running.done:
                    timings = DenoiseTimings(
                        queue=began - arrived,
                        denoise=time.monotonic() - began,
                    )
                    event = dataclasses.replace(event, timings=timings)
                yield event

    def _step(self, job: RunningJob, options: DenoiseOptions) -> StepEvent:
        denoised = reference.advance(job, self._network)
        self.steps_run += 1
        step = job.index
        return StepEvent(
            step=step,
            steps=len(job.solver),
            denoised=to_array(denoised[0].float()) if step in options.emit_denoised_at else None,
            state=checkpoint.save(job) if step in options.emit_state_at else None,
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
    async def turn(self, priority: Priority, deadline: float | None) -> AsyncIterator[None]:
        await self._take(priority, float("inf") if deadline is None else deadline)
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
