"""Drives the batcher: ticks on the process's torch thread, events to whoever waits for them."""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, TypeAlias

import torch

from glimpse.engine import steps
from glimpse.engine.batcher import MOST_ROWS, Batcher, Plan
from glimpse.engine.host_copy import HostCopies
from glimpse.engine.job import Network, RunningJob
from glimpse.engine.mailbox import Mailbox
from glimpse.engine.telling import Telling
from glimpse.engine.ticket import Ticket
from glimpse.errors import DeadlineExceeded, GlimpseError, StageFailed, StageStalled
from glimpse.meter import Meter, Unmetered
from glimpse.ports import DenoiseOptions, Job, StepEvent
from glimpse.torch_thread import TorchThread

logger = logging.getLogger(__name__)

Change: TypeAlias = tuple[Callable[[Ticket], None], Ticket]
Letter: TypeAlias = tuple[Ticket, StepEvent | Exception]


class Engine:
    """Steps many jobs at once: each tick is one call of the network for all that share it.

    Jobs belong to the torch thread. What arrives and what leaves waits in a mailbox, which a tick
    empties before it plans: a cancelled job makes no step after the one that is under way. Each
    tick puts the next one behind whatever else the thread has to do, whatever has gone wrong in it.
    """

    def __init__(
        self,
        network: Network,
        thread: TorchThread,
        *,
        row_budget: int,
        meter: Meter | None = None,
        copies: HostCopies | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._network = network
        self._thread = thread
        self._meter = meter or Unmetered()
        self._clock = clock
        self._batcher: Batcher[int] = Batcher(row_budget)
        self._keys = itertools.count()
        self._open: dict[int, Ticket] = {}  # for whose end somebody waits
        self._mailbox: Mailbox[Change] = Mailbox(lambda: self._thread.post(self._tick))
        self._tickets: dict[int, Ticket] = {}
        self._running: dict[int, RunningJob] = {}  # those that have begun
        self._telling = Telling(copies or HostCopies(network.device), clock)
        self._outbox: list[Letter] = []
        self._lane = thread.watch.lane(self._open.__len__)
        thread.watch.alarms.add(self._stall)
        self.steps_run = 0
        self.rows_run = 0
        self.ticks = 0

    @property
    def counters(self) -> dict[str, int]:
        """Since the start: steps of jobs, rows, calls of the network. Now: jobs, and their room;
        1 where the torch thread stands still."""
        return {
            "steps_run": self.steps_run,
            "rows_run": self.rows_run,
            "ticks": self.ticks,
            "running": len(self._running),
            "waiting": len(self._tickets) - len(self._running),
            "row_budget": self._batcher.row_budget,
            "stalled": int(self._thread.watch.stalled),
        }

    async def denoise(
        self, job: Job, conditioning: Any, image: Any, options: DenoiseOptions
    ) -> AsyncGenerator[StepEvent, None]:
        """Steps a job, and tells of the steps that were asked for and of the last. Closing the
        generator, or cancelling the task that waits on it, is seen before the next tick.

        Raises what kept the job from beginning or stepping, and, in the middle of a step as well,
        `DeadlineExceeded`, and `StageStalled` where the torch thread stands still.
        """
        loop = asyncio.get_running_loop()
        deadline_s = math.inf if options.deadline_s is None else options.deadline_s
        deadline = self._clock() + deadline_s
        ticket = Ticket(next(self._keys), job, conditioning, image, options, deadline, loop)
        late = DeadlineExceeded("The picture was not ready before its deadline.")
        timer = deadline_s < math.inf and loop.call_later(deadline_s, self._end, ticket, late)
        if not self._open:
            self._lane.moved = True
        self._open[ticket.key] = ticket
        try:
            if self._thread.watch.stalled:
                raise StageStalled("denoise")
            self._mailbox.put((self._admit, ticket))
            while True:
                event = await ticket.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if event.latents is not None:
                    return
        finally:
            if timer:
                timer.cancel()
            self._leave(ticket)

    def _end(self, ticket: Ticket, failure: Exception) -> None:
        """Fails a job, and does not wait for the tick that is under way."""
        ticket.events.put_nowait(failure)
        self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        if self._open.pop(ticket.key, None):  # or else it has ended
            self._mailbox.put((self._cancel, ticket))

    def _deliver(self, letters: list[Letter]) -> None:
        for ticket, event in letters:
            ticket.events.put_nowait(event)
            if isinstance(event, Exception):
                self._open.pop(ticket.key, None)
            elif event.latents is not None:
                self._open.pop(ticket.key, None)
                self._meter.step((event.denoise_s or 0) / (event.step - ticket.resumed_at))

    def _stall(self) -> None:
        """On the watchdog's thread: nobody waits for the end of what hangs."""
        for ticket in tuple(self._open.values()):
            try:
                ticket.loop.call_soon_threadsafe(self._end, ticket, StageStalled("denoise"))
            except RuntimeError:
                logger.warning("job %s is of an event loop that is closed", ticket.job.id)

    # All below runs on the torch thread.

    def _admit(self, ticket: Ticket) -> None:
        self._batcher.admit(ticket.entry)
        self._tickets[ticket.key] = ticket

    def _cancel(self, ticket: Ticket) -> None:
        self._batcher.cancel(ticket.key)
        self._remove(ticket.key)

    def _remove(self, key: int) -> None:
        self._tickets.pop(key, None)
        self._running.pop(key, None)

    def _tick(self) -> None:
        """One call of the network, and all that follows from it."""
        try:
            self._change()
            plan = self._batcher.plan()
            if plan is not None:
                self._run(plan)
        except Exception as failure:  # of the engine, not of a job: no one may wait for ever
            for ticket in tuple(self._tickets.values()):
                self._fail(ticket, failure)
        finally:
            try:
                self._tell()
                self._send()
            finally:
                self._lane.moved = True
                self._mailbox.end_tick(more=bool(self._tickets))

    def _change(self) -> None:
        for change, ticket in self._mailbox.take():
            try:
                change(ticket)
            except Exception as failure:
                self._fail(ticket, failure)

    def _fail(self, ticket: Ticket, failure: Exception) -> None:
        """Ends a job for a fault that is not the job's own, or a picture that is none."""
        if not isinstance(failure, GlimpseError):
            logger.error("job %s fails in the engine", ticket.job.id, exc_info=failure)
            self._thread.check_device(failure)
            failure = StageFailed("denoise")
        self._outbox.append((ticket, failure))
        self._cancel(ticket)

    def _tell(self) -> None:
        """Puts what is on the host by now into the outbox; all of it where no tick follows."""
        while told := self._telling.next(wait=not self._tickets):
            ticket, event = told
            if isinstance(event, Exception):
                self._fail(ticket, event)
            else:
                self._outbox.append((ticket, event))

    def _send(self) -> None:
        outbox, self._outbox = self._outbox, []
        loops: dict[asyncio.AbstractEventLoop, list[Letter]] = {}
        for letter in outbox:
            loops.setdefault(letter[0].loop, []).append(letter)
        for loop, letters in loops.items():
            try:
                loop.call_soon_threadsafe(self._deliver, letters)
            except RuntimeError:  # it is closed: nobody waits there any more
                logger.warning("the event loop of %d events is closed", len(letters))
                for ticket, _ in letters:
                    self._open.pop(ticket.key, None)
                    self._cancel(ticket)

    def _run(self, plan: Plan[int]) -> None:
        began = self._clock()
        failed: dict[int, Exception] = {}
        begun = [key for key in plan.keys if self._begin(key, failed)]
        try:
            predictions = self._predict(begun)
        except torch.OutOfMemoryError:
            if plan.rows > MOST_ROWS:
                self._shrink(plan.rows)
                return  # nobody was stepped: the next tick is planned anew
            predictions = self._predict_each(begun, failed)
        except Exception as fault:
            logger.warning("a call of the network failed; its jobs go one by one", exc_info=True)
            self._thread.check_device(fault)
            predictions = self._predict_each(begun, failed)
        done = [key for key in predictions if self._step(key, predictions[key], failed)]
        self.ticks += 1
        self.rows_run += plan.rows
        self._meter.tick(self._clock() - began, plan.rows)
        self._batcher.commit(plan, done=done, failed=failed)
        for key, failure in failed.items():
            self._thread.check_device(failure)
            self._outbox.append((self._tickets[key], failure))
        for key in (*done, *failed):
            self._remove(key)

    def _begin(self, key: int, failed: dict[int, Exception]) -> bool:
        """Sees that a job has begun. Before its first step it holds no memory of the device."""
        if key in self._running:
            return True
        ticket = self._tickets[key]
        ticket.began = ticket.kept = self._clock()
        try:
            running = self._running[key] = steps.begin(
                ticket.job,
                ticket.conditioning,
                ticket.image,
                self._network,
                ticket.options.resume_from,
            )
            ticket.resumed_at = running.index
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
            if running.index >= ticket.options.alone_until:
                self._batcher.release(key)
            self._telling.start(ticket, running, denoised)
        except Exception as failure:
            failed[key] = failure
            return False
        return running.done
