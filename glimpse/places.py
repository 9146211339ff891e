"""Places for pictures and for sessions, counted for the whole application.

Each ingress holds a block of places on lease and admits from it without asking. This module counts
the blocks; `glimpse.http.places` is a holder of one.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from glimpse.fair_share import Asked, Verdict, judged


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
    clock: float  # of the holder, that `asked` has its times from
    total: int
    held: int
    used: Mapping[str, int]  # of those held, by owner
    asked: tuple[Asked, ...]
    few: int  # more that are wanted in advance, where no request waits for them
    ingresses: int  # that the holder sees alive, itself included

    @property
    def spare(self) -> int:
        return self.held - sum(self.used.values())


@dataclass(frozen=True, slots=True)
class Answer:
    """What the counter has decided on a claim: so many places on top, and by id which requests are
    admitted and refused. The others wait. While requests wait anywhere, places are `short`: the
    holder keeps none in advance, and asks for each request."""

    granted: int = 0
    admitted: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()
    short: bool = False


class PlaceCounter(Protocol):
    """The counter as a holder sees it, and how many there are to share with."""

    async def ingresses(self) -> int:
        """The number of ingresses that are alive (starting and draining ones too), this one
        included. Where it is 1 no counter is needed."""
        ...

    async def claim(self, claim: Claim) -> Answer:
        """Renews the holder's lease and decides on its requests. Raises `CounterLost`."""
        ...

    async def called(self, kind: Kind, holder: str) -> None:
        """Returns when the holder shall claim: others need its spare places, or there are places
        for a request of its own that waits. Or after a while without a reason. Raises
        `CounterLost`."""
        ...

    def close(self) -> None:
        """Ends the counter, because nobody shares places any more."""
        ...


@dataclass(frozen=True, slots=True)
class Wait:
    """A claim is decided again when another claim has arrived, or at this time."""

    until: float


@dataclass(slots=True)
class _Block:
    claim: Claim
    held: int
    used: Counter[str]
    asked: dict[int, Asked]  # by id, with times of the counter's clock
    until: float
    told: int  # the count of claims when this one came
    first_decided: int | None = None  # the count of claims then
    recalled_at: float | None = None  # a recall that is not answered yet
    spare: int = field(init=False)

    def __post_init__(self) -> None:
        self.spare = self.claim.spare

    @property
    def undecided(self) -> bool:
        return not all(each.waits for each in self.asked.values())


class PlaceCounts:
    """The blocks of one kind. Pure; times are seconds on any one clock.

    No grant takes the sum of all blocks beyond the total. A holder that does not renew its lease
    for `lease_s` loses its block: it died. Before a new request is refused or has to wait, the
    other holders are asked to give back what they do not use, and have `recall_s` for that. A new
    counter (the one before it died) grants nothing until every living ingress has told what it
    holds, at most for `grace_s`. What a holder tells is taken, even where the sum exceeds the
    total.
    """

    def __init__(self, *, lease_s: float, recall_s: float, grace_s: float, now: float) -> None:
        self._lease_s = lease_s
        self._recall_s = recall_s
        self._grace_until = now + grace_s
        self._blocks: dict[str, _Block] = {}
        self._told = 0

    @property
    def short(self) -> bool:
        """Whether there are requests, at any holder, that the free places are too few for."""
        asked = self._asked()
        return asked > 0 and asked > self._free()

    def tell(self, claim: Claim, now: float) -> None:
        before = self._blocks.get(claim.holder)
        if before is not None and before.claim.number >= claim.number:
            return
        self._told += 1
        later = now - claim.clock
        asked = {each.id: replace(each, since=each.since + later) for each in claim.asked}
        block = _Block(
            claim, claim.held, Counter(claim.used), asked, now + self._lease_s, self._told
        )
        if before is not None and block.spare and not block.undecided:
            block.recalled_at = before.recalled_at
        self._blocks[claim.holder] = block

    def decide(self, claim: Claim, now: float) -> Answer | Wait:
        """What is answered to a claim that was told. Claims are decided one after another, each
        until it is no longer to wait."""
        self._lapse(now)
        block = self._blocks.get(claim.holder)
        if block is None or block.claim is not claim:
            return Answer(short=self.short)  # a later claim has replaced it, or its lease is over
        if now < self._grace_until and len(self._blocks) < self._ingresses():
            return Wait(self._grace_until)
        # The claim's own spare places are there for its own requests.
        verdict = self._judged(self._free() + block.spare)
        admitted = [each.id for each in verdict.admitted if each.holder == claim.holder]
        if block.undecided and len(admitted) < len(block.asked):
            until = self._recall(block, now)
            if until is not None:
                return Wait(until)
        refused = [each.id for each in verdict.refused if each.holder == claim.holder]
        return self._answer(block, admitted, refused)

    def is_called(self, holder: str) -> bool:
        """Whether the holder shall claim: it is recalled, or a request that waits there can be
        admitted."""
        block = self._blocks.get(holder)
        if block is None:
            return False
        if block.recalled_at is not None:
            return True
        admitted = self._judged(self._free()).admitted
        return any(each.waits and each.holder == holder for each in admitted)

    def _judged(self, free: int) -> Verdict:
        blocks = self._blocks.values()
        asked = [each for block in blocks for each in block.asked.values()]
        if not asked:
            return Verdict((), ())
        used = sum((block.used for block in blocks), Counter[str]())
        return judged(asked, free=free, total=self._total(), used=used)

    def _answer(self, block: _Block, admitted: list[int], refused: list[int]) -> Answer:
        places = 0
        for id in admitted:
            each = block.asked.pop(id)
            block.used[each.owner] += each.count
            places += each.count
        for id in refused:
            del block.asked[id]
        block.asked = {id: replace(each, waits=True) for id, each in block.asked.items()}
        granted = max(0, places - block.spare)
        block.spare -= places - granted
        block.held += granted
        if admitted:
            few = max(0, min(block.claim.few, self._free() - self._asked()))
            block.held += few
            block.spare += few
            granted += few
        return Answer(granted, frozenset(admitted), frozenset(refused), self.short)

    def _recall(self, asking: _Block, now: float) -> float | None:
        """Calls those who may still give something back. Until when that is waited for."""
        if asking.first_decided is None:
            asking.first_decided = self._told
        pending = []
        for block in self._blocks.values():
            answered = block.told > asking.first_decided and not block.spare
            if block.undecided or answered or not block.held:
                continue
            if block.recalled_at is None:
                block.recalled_at = now
            until = block.recalled_at + self._recall_s
            if now < until:
                pending.append(until)
        return max(pending, default=None)

    def _lapse(self, now: float) -> None:
        for holder in [holder for holder, block in self._blocks.items() if block.until <= now]:
            del self._blocks[holder]

    def _free(self) -> int:
        return self._total() - sum(block.held for block in self._blocks.values())

    def _asked(self) -> int:
        """The places for all requests that are not admitted."""
        blocks = self._blocks.values()
        return sum(each.count for block in blocks for each in block.asked.values())

    def _ingresses(self) -> int:
        return max(block.claim.ingresses for block in self._blocks.values())

    def _total(self) -> int:
        return max((block.claim for block in self._blocks.values()), key=_age).total


def _age(claim: Claim) -> float:
    return claim.started
