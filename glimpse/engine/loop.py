"""Drives the batcher: ticks on the process's torch thread, events to whoever waits for them."""

import asyncio
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from glimpse.engine import checkpoint, steps
from glimpse.engine.batcher import MOST_ROWS, Batcher, Entry, Plan
from glimpse.engine.host_copy import HostCopies, HostCopy
from glimpse.engine.job import Network, RunningJob
from glimpse.errors import DeadlineExceeded, StageFailed
from glimpse.ports import DenoiseOptions, Job, Latents, StepEvent
from glimpse.torch_thread import TorchThread

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Ticket:
    """A job from its arrival to its end; `running` from its first step on. Times are monotonic."""

    key: int
    job: Job
    conditioning: Any
    image: Any
    options: DenoiseOptions
    deadline: float
    events: asyncio.Queue[StepEvent | Exception] = field(default_factory=asyncio.Queue)
    began: float | None = None

    @property
    def entry(self) -> Entry[int]:
        return Entry(
            self.key,
            rows=MOST_ROWS if self.job.guidance_scale > 1 else 1,
            group=(self.job.width, self.job.height),
            priority=self.options.priority,
            deadline=self.deadline,
        )


@dataclass(frozen=True, slots=True)
class _Told:
    """A step that is told of, while its tensors are on their way to the host."""

    ticket: _Ticket
    step: int
    steps: int
    denoised: HostCopy | None
    state: bytes | None
    latents: HostCopy | None

    @property
    def there(self) -> bool:
        return all(copy is None or copy.there for copy in (self.denoised, self.latents))

    def event(self) -> StepEvent:
        """Raises `StageFailed` for latents that are no picture.

        They are looked at here, on the host: to look at each step would hold up a GPU.
        """
        latents = denoise_s = None
        if self.latents is not None and self.ticket.began is not None:
            latents = self._finite(self.latents)
            denoise_s = time.monotonic() - self.ticket.began
        denoised = None if self.denoised is None else self._finite(self.denoised)
        return StepEvent(self.step, self.steps, denoised, self.state, latents, denoise_s=denoise_s)

    def _finite(self, copy: HostCopy) -> Latents:
        array = copy.array()
        if not np.isfinite(array).all():
            text = (
                f"The picture was NaN or infinite after step {self.step}; another scheduler, a "
                "lower guidance_scale or the server's dtype float32 may help."
            )
            raise StageFailed("denoise", text)
        return array


class Engine:
    """Steps many jobs at once: each tick is one call of the network for all that share it.

    Jobs belong to the torch thread. What arrives and what leaves waits in an inbox, which a tick
    empties before it plans: a cancelled job makes no step after the one that is under way. Each
    tick puts the next one behind whatever else the thread has to do.
    """

    def __init__(self, network: Network, thread: TorchThread, *, row_budget: int) -> None:
        self._network = network
        self._thread = thread
        self._batcher: Batcher[int] = Batcher(row_budget)
        self._keys = itertools.count()
        self._tickets: dict[int, _Ticket] = {}
        self._running: dict[int, RunningJob] = {}  # those that have begun
        self._inbox: deque[Callable[[], None]] = deque()
        self._copies = HostCopies(network.device)
        self._told: deque[_Told] = deque()  # in the order of the steps
        self._outbox: list[tuple[_Ticket, StepEvent | Exception]] = []
        self._ticking = False
        self._lock = threading.Lock()  # so that nothing is put into the inbox of a loop that stops
        self.steps_run = 0
        self.rows_run = 0
        self.ticks = 0

    @property
    def counters(self) -> dict[str, int]:
        """Since the start: steps of jobs, rows, calls of the network. Now: jobs, and their room."""
        return {
            "steps_run": self.steps_run,
            "rows_run": self.rows_run,
            "ticks": self.ticks,
            "running": len(self._running),
            "waiting": len(self._tickets) - len(self._running),
            "row_budget": self._batcher.row_budget,
        }

    async def denoise(
        self, job: Job, conditioning: Any, image: Any, options: DenoiseOptions
    ) -> AsyncGenerator[StepEvent, None]:
        """Steps a job, and tells of the steps that were asked for and of the last. Closing the
        generator, or cancelling the task that waits on it, is seen before the next tick.

        Raises what kept the job from beginning or stepping, and `DeadlineExceeded`.
        """
        loop = asyncio.get_running_loop()
        deadline = math.inf
        if options.deadline_s is not None:
            deadline = time.monotonic() + options.deadline_s
        ticket = _Ticket(next(self._keys), job, conditioning, image, options, deadline)
        self._post(lambda: self._admit(ticket), loop)
        try:
            while True:
                event = await ticket.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if event.latents is not None:
                    return
        finally:
            self._post(lambda: self._cancel(ticket.key), loop)

    def _post(self, change: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Hands a change to the torch thread, and wakes it."""
        with self._lock:
            self._inbox.append(change)
            wake, self._ticking = not self._ticking, True
        if wake:
            self._thread.post(self._tick, loop)

    # All below runs on the torch thread.

    def _admit(self, ticket: _Ticket) -> None:
        self._batcher.admit(ticket.entry)
        self._tickets[ticket.key] = ticket

    def _cancel(self, key: int) -> None:
        self._batcher.cancel(key)
        self._remove(key)

    def _remove(self, key: int) -> None:
        self._tickets.pop(key, None)
        self._running.pop(key, None)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """One call of the network, and all that follows from it."""
        try:
            while self._inbox:
                self._inbox.popleft()()
            self._expire()
            plan = self._batcher.plan()
            if plan is not None:
                self._run(plan)
        except Exception:  # of the engine, not of a job: no one may wait for ever
            logger.exception("a tick failed")
            self._fail({key: StageFailed("denoise") for key in self._tickets})
        self._tell()
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            loop.call_soon_threadsafe(_deliver, outbox)
        with self._lock:
            self._ticking = bool(self._inbox or self._tickets)
            again = self._ticking
        if again:
            self._thread.post(self._tick, loop)

    def _expire(self) -> None:
        now = time.monotonic()
        late = [key for key, ticket in self._tickets.items() if ticket.deadline < now]
        text = "The picture was not ready before its deadline."
        self._fail({key: DeadlineExceeded(text) for key in late})

    def _fail(self, failures: dict[int, Exception]) -> None:
        """Ends jobs outside a tick."""
        for key, failure in failures.items():
            self._outbox.append((self._tickets[key], failure))
            self._cancel(key)

    def _run(self, plan: Plan[int]) -> None:
        failed: dict[int, Exception] = {}
        begun = [key for key in plan.keys if self._begin(key, failed)]
        try:
            predictions = self._predict(begun)
        except torch.OutOfMemoryError:
            if plan.rows > MOST_ROWS:
                self._shrink(plan.rows)
                return  # nobody was stepped: the next tick is planned anew
            predictions = self._predict_each(begun, failed)
        except Exception:
            logger.warning("a call of the network failed; its jobs go one by one", exc_info=True)
            predictions = self._predict_each(begun, failed)
        done = [key for key in predictions if self._step(key, predictions[key], failed)]
        self.ticks += 1
        self.rows_run += plan.rows
        self._batcher.commit(plan, done=done, failed=failed)
        for key, failure in failed.items():
            self._outbox.append((self._tickets[key], failure))
        for key in (*done, *failed):
            self._remove(key)

    def _begin(self, key: int, failed: dict[int, Exception]) -> bool:
        """Sees that a job has begun. Before its first step it holds no memory of the device."""
        if key in self._running:
            return True
        ticket = self._tickets[key]
        ticket.began = time.monotonic()
        try:
            self._running[key] = steps.begin(
                ticket.job,
                ticket.conditioning,
                ticket.image,
                self._network,
                ticket.options.resume_from,
            )
        except Exception as failure:
            failed[key] = failure
            return False
        return True

    def _predict(self, keys: Iterable[int]) -> dict[int, torch.Tensor]:
        jobs = {key: self._running[key] for key in keys}
        if not jobs:
            return {}
        predictions = steps.predict(list(jobs.values()), self._network)
        return dict(zip(jobs, predictions, strict=True))

    def _predict_each(
        self, keys: Iterable[int], failed: dict[int, Exception]
    ) -> dict[int, torch.Tensor]:
        """After a call for all failed: those whose own call fails, too, are to blame."""
        predictions: dict[int, torch.Tensor] = {}
        for key in keys:
            try:
                predictions |= self._predict([key])
            except torch.OutOfMemoryError:
                text = "This size does not fit into the device's memory; ask for a smaller one."
                failed[key] = StageFailed("denoise", text)
            except Exception as failure:
                failed[key] = failure
        return predictions

    def _shrink(self, rows: int) -> None:
        """After the device ran out of memory at so many rows."""
        self._batcher.row_budget = max(MOST_ROWS, min(rows, self._batcher.row_budget) // 2)
        logger.warning(
            "out of memory at %d rows; from now on at most %d", rows, self._batcher.row_budget
        )
        if self._network.device.type == "cuda":
            torch.cuda.empty_cache()

    def _step(self, key: int, prediction: torch.Tensor, failed: dict[int, Exception]) -> bool:
        """The solver's step of one job. True where it was the last."""
        ticket, running = self._tickets[key], self._running[key]
        try:
            denoised = steps.advance(running, prediction)
            self.steps_run += 1
            if running.done or running.index in ticket.options.told:
                self._told.append(self._to_tell(ticket, running, denoised))
        except Exception as failure:
            failed[key] = failure
            return False
        return running.done

    def _to_tell(self, ticket: _Ticket, running: RunningJob, denoised: torch.Tensor) -> _Told:
        """Starts to hand out what there is to tell of the step that a job has just made."""
        options, step = ticket.options, running.index
        shown = step in options.emit_denoised_at
        return _Told(
            ticket,
            step,
            steps=len(running.solver),
            denoised=self._copies.start(denoised[0]) if shown else None,
            state=checkpoint.save(running) if step in options.emit_state_at else None,
            latents=self._copies.start(running.latents[0]) if running.done else None,
        )

    def _tell(self) -> None:
        """Puts what is on the host by now into the outbox; all of it where no tick follows."""
        while self._told and (self._told[0].there or not self._tickets):
            told = self._told.popleft()
            try:
                self._outbox.append((told.ticket, told.event()))
            except StageFailed as failure:
                self._outbox.append((told.ticket, failure))
                self._cancel(told.ticket.key)


def _deliver(outbox: list[tuple[_Ticket, StepEvent | Exception]]) -> None:
    for ticket, event in outbox:
        ticket.events.put_nowait(event)
