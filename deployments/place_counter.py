"""The places of the whole application, counted in one actor. Without Serve, so that it starts
quickly."""

import asyncio
import contextlib
import time

from glimpse.places import Claim, Kind, PlaceCounts, Wait

LEASE_S = 5.0
RECALL_S = 1.0
GRACE_S = 2.0
LISTEN_S = 30.0


class PlaceCounter:
    """Several ingresses call it at once. If it dies, they tell the next one what they hold."""

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

    async def claim(self, claim: Claim) -> int:
        return await self._kinds[claim.kind].claim(claim)

    async def recalled(self, kind: Kind, holder: str) -> None:
        await self._kinds[kind].recalled(holder)


class _Kind:
    def __init__(self, counts: PlaceCounts) -> None:
        self._counts = counts
        self._turn = asyncio.Lock()  # claims are decided in the order in which they came
        self._told = asyncio.Event()
        self._recalls: dict[str, asyncio.Event] = {}

    async def claim(self, claim: Claim) -> int:
        self._counts.tell(claim, time.monotonic())
        self._told.set()
        if not claim.needed:
            return 0
        async with self._turn:
            while isinstance(decision := self._counts.decide(claim, time.monotonic()), Wait):
                await self._until_told(decision)
            return decision

    async def recalled(self, holder: str) -> None:
        if self._counts.is_recalled(holder):
            return
        recall = self._recalls[holder] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTEN_S):
                await recall.wait()
        if self._recalls.get(holder) is recall:
            del self._recalls[holder]

    async def _until_told(self, wait: Wait) -> None:
        self._told.clear()
        for holder in wait.recalled:
            if holder in self._recalls:
                self._recalls[holder].set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, wait.until - time.monotonic())):
                await self._told.wait()
