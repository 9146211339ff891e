"""Events of steps, while their tensors are on their way to the host."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from glimpse.engine import checkpoint
from glimpse.engine.checkpoint import Snapshot
from glimpse.engine.host_copy import HostCopies, HostCopy
from glimpse.engine.job import RunningJob
from glimpse.engine.ticket import Ticket
from glimpse.errors import StageFailed
from glimpse.ports import Latents, StepEvent


@dataclass(frozen=True, slots=True)
class _Told:
    ticket: Ticket
    step: int
    steps: int
    denoised: HostCopy | None
    state: Snapshot | None
    latents: HostCopy | None

    @property
    def there(self) -> bool:
        parts = (self.denoised, self.state, self.latents)
        return all(part is None or part.there for part in parts)

    def event(self, now: float) -> StepEvent:
        """Raises `StageFailed` for latents that are no picture.

        They are looked at here, on the host: to look at each step would hold up a GPU.
        """
        return StepEvent(
            self.step,
            self.steps,
            denoised=None if self.denoised is None else self._finite(self.denoised),
            state=None if self.state is None else self.state.state(),
            latents=None if self.latents is None else self._finite(self.latents),
            denoise_s=now - self.ticket.began,
        )

    def _finite(self, copy: HostCopy) -> Latents:
        array = copy.array()
        if not np.isfinite(array).all():
            text = (
                f"The picture was NaN or infinite after step {self.step}; another scheduler, a "
                "lower guidance_scale or the server's dtype float32 may help."
            )
            raise StageFailed("denoise", text)
        return array


class Telling:
    """Steps that somebody asked for, in their order. A failure is of the step's job alone."""

    def __init__(self, copies: HostCopies, clock: Callable[[], float]) -> None:
        self._copies = copies
        self._clock = clock
        self._told: deque[_Told] = deque()

    def start(self, ticket: Ticket, running: RunningJob, denoised: torch.Tensor) -> None:
        """Starts to hand out what there is to tell of the step that a job has just made, if any."""
        step = running.index
        kept = self._is_kept(ticket, running)
        if not (kept or running.done or step in ticket.told):
            return
        shown = step in ticket.options.emit_denoised_at
        self._told.append(
            _Told(
                ticket,
                step,
                steps=len(running.solver),
                denoised=self._copies.start(denoised[0]) if shown else None,
                state=checkpoint.take(running, self._copies) if kept else None,
                latents=self._copies.start(running.latents[0]) if running.done else None,
            )
        )

    def _is_kept(self, ticket: Ticket, running: RunningJob) -> bool:
        """Whether there is a checkpoint of the step."""
        options = ticket.options
        if not options.emit_state_at and options.emit_state_every_s is None:
            return False
        kept, now = running.index in options.emit_state_at, self._clock()
        if options.emit_state_every_s is not None and not running.done:
            kept = kept or now - ticket.kept >= options.emit_state_every_s
        if kept:
            ticket.kept = now
        return kept

    def next(self, *, wait: bool) -> tuple[Ticket, StepEvent | Exception] | None:
        """The oldest, where it is on the host by now or is to be waited for; or why it cannot be
        told of."""
        if not self._told:
            return None
        told = self._told[0]
        event: StepEvent | Exception
        try:
            if not wait and not told.there:
                return None
            event = told.event(self._clock())
        except Exception as failure:
            event = failure
        self._told.popleft()
        return told.ticket, event
