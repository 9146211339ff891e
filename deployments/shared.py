"""What the ingresses of an application share: the count of places, and trials. One actor, without
Serve, so that it starts quickly."""

import asyncio
import contextlib
import time
from collections.abc import Collection

from glimpse.places import Answer, Claim, Kind, PlaceCounts, Wait
from glimpse.trials import TrialRecord

LEASE_S = 5.0
RECALL_S = 1.0
GRACE_S = 2.0
LISTEN_S = 30.0
TRIAL_S = 1.0  # of waiting for the end of a trial, before its holder is looked for


class Shared:
    """Several ingresses call it at once. If it dies, they tell the next one what they hold; trials
    that are going on then are not known to it."""

    def __init__(
        self, *, lease_s: float = LEASE_S, recall_s: float = RECALL_S, grace_s: float = GRACE_S
    ) -> None:
        self._kinds = {
            kind: _Kind(
                PlaceCounts(
                    lease_s=lease_s, recall_s=recall_s, grace_s=grace_s, now=time.monotonic()
                )
            )
            for kind in Kind
        }
        self._trials = TrialRecord()
        self._trial_ended = asyncio.Event()

    async def claim(self, claim: Claim) -> Answer:
        return await self._kinds[claim.kind].claim(claim)

    async def called(self, kind: Kind, holder: str) -> None:
        await self._kinds[kind].called(holder)

    async def begin_trial(self, holder: str, stage: str, alive: Collection[str]) -> bool:
        """Whether the trial begins. If not, a while has passed, and the holder asks again: one that
        is granted later would be held by nobody, should the call have been cancelled meanwhile.
        """
        self._trials.end_of_the_dead(alive)
        if self._trials.holder not in (None, holder):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRIAL_S):
                    await self._trial_ended.wait()
            return False
        self._trials.begin(holder, stage)
        return True

    async def end_trial(self, holder: str, stage: str, convicted: bool) -> None:
        self._trials.end(holder, stage, convicted=convicted)
        self._trial_ended.set()
        self._trial_ended = asyncio.Event()

    async def excuses(self, stage: str, age_s: float, alive: Collection[str]) -> bool:
        self._trials.end_of_the_dead(alive)
        return self._trials.excuses(stage, age_s)


class _Kind:
    def __init__(self, counts: PlaceCounts) -> None:
        self._counts = counts
        self._turn = asyncio.Lock()  # claims are decided in the order in which they came
        self._told = asyncio.Event()
        self._calls: dict[str, asyncio.Event] = {}  # by the holder that listens

    async def claim(self, claim: Claim) -> Answer:
        self._counts.tell(claim, time.monotonic())
        self._told.set()
        self._call()
        if not claim.asked:
            return Answer(short=self._counts.short)
        async with self._turn:
            while isinstance(decision := self._counts.decide(claim, time.monotonic()), Wait):
                await self._until_told(decision)
            self._call()
            return decision

    async def called(self, holder: str) -> None:
        if self._counts.is_called(holder):
            return
        call = self._calls[holder] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTEN_S):
                await call.wait()
        if self._calls.get(holder) is call:
            del self._calls[holder]

    def _call(self) -> None:
        for holder, call in self._calls.items():
            if self._counts.is_called(holder):
                call.set()

    async def _until_told(self, wait: Wait) -> None:
        self._told.clear()
        self._call()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, wait.until - time.monotonic())):
                await self._told.wait()
