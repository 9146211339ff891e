"""`glimpse.places`: grants never go beyond the total, and no place is lost."""

import pickle
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from glimpse.places import Claim, Kind, PlaceCounts, Wait

LEASE_S, RECALL_S, GRACE_S = 5.0, 1.0, 2.0
TOTAL = 16

CLAIM = Claim(
    kind=Kind.PICTURES,
    holder="a",
    number=1,
    started=0,
    total=TOTAL,
    held=0,
    spare=0,
    needed=0,
    wanted=0,
    ingresses=2,
)


def counting(now: float = -GRACE_S) -> PlaceCounts:
    """A counter whose grace is over at 0."""
    return PlaceCounts(lease_s=LEASE_S, recall_s=RECALL_S, grace_s=GRACE_S, now=now)


def tell(counts: PlaceCounts, claim: Claim, now: float = 0) -> Claim:
    counts.tell(claim, now)
    return claim


def claim(holder: str, number: int = 1, **fields: Any) -> Claim:
    if "needed" in fields:
        fields.setdefault("wanted", fields["needed"])
    return replace(CLAIM, holder=holder, number=number, **fields)


def test_a_few_beyond_the_need_are_granted_as_far_as_there_are_any() -> None:
    counts = counting()
    assert counts.decide(tell(counts, claim("a", needed=9, wanted=11)), 0) == 11
    assert counts.decide(tell(counts, claim("b", needed=3, wanted=7)), 0) == 5


def test_spare_places_are_recalled_before_anybody_is_refused() -> None:
    counts = counting()
    tell(counts, claim("b", held=10, spare=4))
    asking = tell(counts, claim("a", held=6, needed=3))
    assert counts.decide(asking, 0) == Wait(RECALL_S, ("b",))
    assert counts.is_recalled("b")
    tell(counts, claim("b", 2, held=10, spare=4), 0.1)  # sent before the recall arrived
    assert counts.decide(asking, 0.1) == Wait(RECALL_S, ("b",)) and counts.is_recalled("b")
    tell(counts, claim("b", 3, held=8), 0.2)
    assert not counts.is_recalled("b")
    assert counts.decide(asking, 0.2) == 2


def test_who_holds_and_does_not_answer_is_waited_for_once() -> None:
    counts = counting()
    tell(counts, claim("b", held=TOTAL, spare=4))
    asking = tell(counts, claim("a", needed=1))
    assert counts.decide(asking, 0) == Wait(RECALL_S, ("b",))
    assert counts.decide(asking, RECALL_S) == 0
    assert counts.decide(tell(counts, claim("a", 2, needed=1), RECALL_S), RECALL_S) == 0


def test_two_that_ask_at_once_do_not_wait_for_each_other() -> None:
    counts = counting()
    first = tell(counts, claim("a", held=8, needed=1))
    second = tell(counts, claim("b", held=8, needed=1))
    assert counts.decide(first, 0) == 0
    assert isinstance(counts.decide(second, 0), Wait)  # the first may have something back by now
    tell(counts, claim("a", 2, held=7), 0)
    assert counts.decide(second, 0) == 1


def test_a_block_that_nobody_renews_is_free_again() -> None:
    counts = counting()
    tell(counts, claim("dead", held=TOTAL))
    tell(counts, claim("a"), LEASE_S - 0.1)
    asking = tell(counts, claim("a", 2, needed=1), LEASE_S)
    assert counts.decide(asking, LEASE_S) == 1


def test_a_new_counter_grants_nothing_before_every_ingress_has_told() -> None:
    counts = counting(now=0)
    asking = tell(counts, claim("a", held=4, needed=1, ingresses=3), 0.1)
    assert counts.decide(asking, 0.1) == Wait(GRACE_S, ())
    tell(counts, claim("b", held=11, ingresses=2), 0.2)
    assert counts.decide(asking, 0.2) == Wait(GRACE_S, ())
    tell(counts, claim("c", held=1, ingresses=3), 0.3)
    assert isinstance(counts.decide(asking, 0.3), Wait)  # for what the others have to spare
    counts = counting(now=0)
    asking = tell(counts, claim("a", held=4, needed=1), 0.1)
    assert counts.decide(asking, GRACE_S) == 1  # nobody else has come


def test_what_is_told_is_taken_and_then_nothing_is_granted() -> None:
    counts = counting()
    tell(counts, claim("a", held=12))
    tell(counts, claim("b", held=12))
    for holder in ("a", "b"):
        tell(counts, claim(holder, 2, held=12), 0.1)
    asking = tell(counts, claim("c", needed=1), 0.1)
    assert isinstance(counts.decide(asking, 0.1), Wait)
    for holder in ("a", "b"):
        tell(counts, claim(holder, 3, held=12), 0.2)
    assert counts.decide(asking, 0.2) == 0


def test_a_claim_that_a_later_one_has_overtaken_counts_for_nothing() -> None:
    counts = counting()
    late = claim("a", 1, held=0, needed=3)
    tell(counts, claim("a", 2, held=TOTAL))
    assert counts.decide(tell(counts, late), 0) == 0
    asking = tell(counts, claim("b", needed=1))
    assert isinstance(counts.decide(asking, 0), Wait)


def test_in_an_update_the_newest_settings_count() -> None:
    counts = counting()
    tell(counts, claim("old", held=4, started=1))
    new = tell(counts, claim("new", total=6, started=2, needed=6))
    assert isinstance(counts.decide(new, 0), Wait)
    tell(counts, claim("old", 2, held=4, started=1))
    assert counts.decide(new, 0) == 2


def test_a_claim_survives_its_way_between_processes() -> None:
    assert pickle.loads(pickle.dumps(CLAIM)) == CLAIM


@dataclass
class Holder:
    id: str
    held: int = 0
    used: int = 0
    claims: int = 0


class Ingresses(RuleBasedStateMachine):
    """Holders that come, work and die, over a counter that dies too. Living holders renew in time
    and answer recalls; the dead are silent."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.counts = counting()
        self.holders: list[Holder] = []
        self.born = 0

    def claim(self, holder: Holder, needed: int, wanted: int) -> Claim:
        holder.claims += 1
        told = claim(
            holder.id,
            holder.claims,
            held=holder.held,
            spare=holder.held - holder.used,
            needed=needed,
            wanted=wanted,
            ingresses=len(self.holders),
        )
        self.counts.tell(told, self.now)
        return told

    def take(self, holder: Holder, needed: int, wanted: int) -> int:
        told = self.claim(holder, needed, wanted)
        while isinstance(decision := self.counts.decide(told, self.now), Wait):
            answering = [each for each in self.holders if self.counts.is_recalled(each.id)]
            for each in answering:
                each.held = each.used
                self.claim(each, 0, 0)
            if not answering:
                self.now = decision.until
        holder.held += decision
        return decision

    @precondition(lambda self: len(self.holders) < 5)
    @rule()
    def comes(self) -> None:
        self.born += 1
        self.holders.append(Holder(str(self.born)))
        self.claim(self.holders[-1], 0, 0)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), needed=st.integers(1, TOTAL), few=st.integers(0, 4))
    def asks(self, data: st.DataObject, needed: int, few: int) -> None:
        holder = data.draw(st.sampled_from(self.holders))
        holder.used = holder.held
        granted = self.take(holder, needed, needed + few)
        holder.used += min(granted, needed)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def ends_some(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(self.holders))
        holder.used = data.draw(st.integers(0, holder.used))

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def gives_back(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(self.holders))
        holder.held = data.draw(st.integers(holder.used, holder.held))
        self.claim(holder, 0, 0)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        self.holders.remove(data.draw(st.sampled_from(self.holders)))

    @rule(seconds=st.floats(0, LEASE_S / 2))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for holder in self.holders:
            self.claim(holder, 0, 0)

    @rule()
    def the_counter_dies(self) -> None:
        self.counts = counting(self.now)
        for holder in self.holders:
            self.claim(holder, 0, 0)

    @invariant()
    def never_more_than_the_total(self) -> None:
        assert sum(holder.held for holder in self.holders) <= TOTAL

    def teardown(self) -> None:
        """No place is lost: once the dead have lapsed, one holder gets all that nobody uses."""
        self.comes_last()

    def comes_last(self) -> None:
        for _ in range(3):
            self.time_passes(LEASE_S / 2)
        self.holders.append(last := Holder("last"))
        used = sum(holder.used for holder in self.holders)
        assert self.take(last, TOTAL, TOTAL) == TOTAL - used


Ingresses.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=30)
TestIngresses = Ingresses.TestCase
