"""Places for pictures and for sessions, counted for the whole application.

Each ingress holds a block of places on lease and admits from it without asking. This module counts
the blocks; `glimpse.http.places` is a holder of one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    PICTURES = "pictures"
    SESSIONS = "sessions"


class CounterLost(Exception):
    """The counter died or does not answer. The next call finds another one, or starts it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """All that the counter has to know of one holder. Each claim replaces the holder's last one."""

    kind: Kind
    holder: str
    number: int  # grows with each claim; a claim that arrives after a later one is ignored
    started: float  # wall clock; in a rolling update the newest holder's total counts
    total: int
    held: int
    spare: int  # of those held, not in use
    needed: int  # more places, for requests that wait
    wanted: int  # the same and a few in advance
    ingresses: int  # that the holder sees alive, itself included


class PlaceCounter(Protocol):
    """The counter as a holder sees it, and how many there are to share with."""

    async def ingresses(self) -> int:
        """The number of ingresses that are alive (starting and draining ones too), this one
        included. Where it is 1 no counter is needed."""
        ...

    async def claim(self, claim: Claim) -> int:
        """Renews the holder's lease and returns how many places it is granted on top. Raises
        `CounterLost`."""
        ...

    async def recalled(self, kind: Kind, holder: str) -> None:
        """Returns when the holder shall give back its spare places, or after a while without a
        reason. Raises `CounterLost`."""
        ...

    def close(self) -> None:
        """Ends the counter, because nobody shares places any more."""
        ...


@dataclass(frozen=True, slots=True)
class Wait:
    """A claim is decided again when another claim has arrived, or at this time."""

    until: float
    recalled: tuple[str, ...]  # holders that shall give back their spare places


@dataclass(slots=True)
class _Block:
    claim: Claim
    held: int
    until: float
    told: int  # the count of claims when this one came
    asking: bool
    asked: int | None = None  # the count of claims when it was first decided
    recalled_at: float | None = None  # a recall that is not answered yet


class PlaceCounts:
    """The blocks of one kind. Pure; times are seconds on any one clock.

    No grant takes the sum of all blocks beyond the total. A holder that does not renew its lease
    for `lease_s` loses its block: it died. Before a holder is refused, the others are asked to give
    back what they do not use, and have `recall_s` for that. A new counter (the one before it died)
    grants nothing until every living ingress has told what it holds, at most for `grace_s`. What a
    holder tells is taken, even where the sum exceeds the total.
    """

    def __init__(self, *, lease_s: float, recall_s: float, grace_s: float, now: float) -> None:
        self._lease_s = lease_s
        self._recall_s = recall_s
        self._grace_until = now + grace_s
        self._blocks: dict[str, _Block] = {}
        self._told = 0

    def tell(self, claim: Claim, now: float) -> None:
        before = self._blocks.get(claim.holder)
        if before is not None and before.claim.number >= claim.number:
            return
        self._told += 1
        block = _Block(claim, claim.held, now + self._lease_s, self._told, claim.needed > 0)
        if before is not None and claim.spare and not block.asking:
            block.recalled_at = before.recalled_at
        self._blocks[claim.holder] = block

    def decide(self, claim: Claim, now: float) -> int | Wait:
        """The places granted to a claim that was told. Claims are decided one after another, each
        until it is no longer to wait."""
        self._lapse(now)
        block = self._blocks.get(claim.holder)
        if block is None or block.claim is not claim:
            return 0  # a later claim has replaced it
        if now < self._grace_until and len(self._blocks) < self._ingresses():
            return Wait(self._grace_until, ())
        free = self._total() - sum(each.held for each in self._blocks.values())
        if free < claim.needed:
            pending = self._recall(block, now)
            if pending:
                return Wait(max(pending.values()), tuple(pending))
        granted = max(0, min(free, claim.wanted))
        block.held += granted
        block.asking = False
        return granted

    def is_recalled(self, holder: str) -> bool:
        block = self._blocks.get(holder)
        return block is not None and block.recalled_at is not None

    def _recall(self, asking: _Block, now: float) -> dict[str, float]:
        """Who may still give something back, and until when that is waited for."""
        if asking.asked is None:
            asking.asked = self._told
        pending = {}
        for holder, block in self._blocks.items():
            answered = block.told > asking.asked and not block.claim.spare
            if block.asking or answered or not block.held:
                continue
            if block.recalled_at is None:
                block.recalled_at = now
            until = block.recalled_at + self._recall_s
            if now < until:
                pending[holder] = until
        return pending

    def _lapse(self, now: float) -> None:
        for holder in [holder for holder, block in self._blocks.items() if block.until <= now]:
            del self._blocks[holder]

    def _ingresses(self) -> int:
        return max(block.claim.ingresses for block in self._blocks.values())

    def _total(self) -> int:
        return max((block.claim for block in self._blocks.values()), key=_age).total


def _age(claim: Claim) -> float:
    return claim.started
