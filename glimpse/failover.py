"""Work that outlives the replica it was on: how often it may move."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from glimpse.errors import StageFailed, StageLost, StageStalled
from glimpse.meter import Meter
from glimpse.trials import Trials

logger = logging.getLogger(__name__)

ALONE_FROM = 2
"""Losses of one piece of work after which it is tried without company."""


@dataclass(frozen=True, slots=True)
class Failover:
    """Work whose replica is lost goes to another one, `max_moves` times.

    A checkpoint is taken every so many steps, and at the latest every so many seconds; None: no
    checkpoints, work that is moved begins anew. `trials` are shared by all work of a process.
    """

    max_moves: int
    checkpoint_every_steps: int | None = None
    checkpoint_every_s: float | None = None
    trials: Trials = field(default_factory=Trials)

    def checkpoint_steps(self, steps: int, previews: frozenset[int]) -> frozenset[int]:
        """The steps (from 1) after which a job has a checkpoint: those with a preview, and so many
        more that no gap is too large. No step, for a job that is over before the first was due.
        """
        every = self.checkpoint_every_steps
        if every is None or steps <= every or self.max_moves == 0:
            return frozenset()
        return previews | frozenset(range(every, steps, every))


class Moves:
    """The replicas that one piece of work has lost. A context manager for each attempt at it, which
    swallows the loss of a replica where there may be another attempt:

        while True:
            async with moves:
                return await attempt()
    """

    def __init__(
        self,
        stage: str,
        failover: Failover,
        meter: Meter,
        resumes: Callable[[], str] | None = None,
    ) -> None:
        """`resumes`: for the log, from where the next attempt goes on."""
        self._stage = stage
        self._failover = failover
        self._meter = meter
        self._resumes = resumes
        self._count = 0
        self._began = 0.0
        self.on_trial = False

    async def __aenter__(self) -> None:
        if self._count >= ALONE_FROM:
            await self._failover.trials.begin(self._stage)
            self.on_trial = True
        self._began = time.monotonic()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        on_trial = self.on_trial
        lost = error if isinstance(error, StageLost) and error.stage == self._stage else None
        if on_trial:
            self._end_trial(convicted=lost is not None)
        if lost is None:
            return False
        if on_trial:
            text = (
                f"The {self._stage} stage was lost three times over this picture, which is not "
                "tried again; another size, scheduler or input may work."
            )
            raise StageFailed(self._stage, text) from lost
        return await self._may_move(lost)

    def passed(self) -> None:
        """The work is past where its replicas were lost: its trial, if there is one, is over."""
        if self.on_trial:
            self._end_trial(convicted=False)

    def _end_trial(self, *, convicted: bool) -> None:
        self.on_trial = False
        self._failover.trials.end(self._stage, convicted=convicted)

    async def _may_move(self, lost: StageLost) -> bool:
        age_s = time.monotonic() - self._began
        excused = await self._failover.trials.excuse(self._stage, age_s)
        self._count += not excused
        if self._count > self._failover.max_moves:
            return False
        reason = "stalled" if isinstance(lost, StageStalled) else "lost"
        resumes = ", begins anew" if self._resumes is None else self._resumes()
        logger.warning(
            "moved: %s %s%s on another replica (move %d of %d%s)",
            self._stage,
            reason,
            resumes,
            self._count,
            self._failover.max_moves,
            ", not counted: a trial ended it" if excused else "",
        )
        self._meter.moved(self._stage, "stalled" if reason == "stalled" else "lost")
        return True
