"""Trials: work that has lost two replicas runs alone, to see whether it is the cause."""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Protocol


class TrialBoard(Protocol):
    """What ingresses that send work to the same replicas tell each other of their trials. Where the
    others cannot be reached, no method raises or waits for long: this ingress goes on by itself."""

    async def begin_trial(self, stage: str) -> None:
        """Waits for the trials of other ingresses."""
        ...

    def end_trial(self, stage: str, *, convicted: bool) -> None:
        """Waits for nothing."""
        ...

    async def excuses(self, stage: str, age_s: float) -> bool:
        """As `TrialRecord.excuses`, of the trials of all ingresses."""
        ...


class TrialRecord:
    """The trial that is going on, and when the last one of each stage ended in a conviction."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: str | None = None
        self._convicted_at: dict[str, float] = {}
        self.holder: str | None = None  # whose trial it is

    def begin(self, holder: str, stage: str) -> None:
        self.holder, self._stage = holder, stage

    def end(self, holder: str, stage: str, *, convicted: bool) -> None:
        """A trial that is not the holder's goes on."""
        if convicted:
            self._convicted_at[stage] = self._clock()
        if holder == self.holder:
            self.holder = self._stage = None

    def end_of_the_dead(self, alive: Collection[str]) -> None:
        """The trial of a holder that is not alive is over."""
        if self.holder not in alive:
            self.holder = self._stage = None

    def excuses(self, stage: str, age_s: float) -> bool:
        """Whether the loss of work that began so long ago is put down to a trial."""
        began = self._clock() - age_s
        return stage == self._stage or began < self._convicted_at.get(stage, float("-inf"))


class Trials:
    """One at a time. Whoever loses a replica beside a trial that ended it is innocent, and its move
    does not count.
    """

    def __init__(self, board: TrialBoard | None = None) -> None:
        """`board`: of other ingresses, whose trials may be on the same replicas."""
        self._board = board
        self._record = TrialRecord()
        self._turn = asyncio.Lock()

    async def begin(self, stage: str) -> None:
        """Waits for the trials before."""
        await self._turn.acquire()
        try:
            if self._board is not None:
                await self._board.begin_trial(stage)
        except BaseException:
            self._turn.release()
            raise
        self._record.begin("here", stage)

    def end(self, stage: str, *, convicted: bool) -> None:
        self._record.end("here", stage, convicted=convicted)
        try:
            if self._board is not None:  # before the next one here begins: it is of the same holder
                self._board.end_trial(stage, convicted=convicted)
        finally:
            self._turn.release()

    async def excuse(self, stage: str, age_s: float) -> bool:
        """Whether the loss of work that began so long ago is put down to a trial."""
        if self._record.excuses(stage, age_s):
            return True
        return self._board is not None and await self._board.excuses(stage, age_s)
