"""`glimpse.places`: grants never go beyond the total, no place is lost, and a place goes to who is
next in the whole application."""

import pickle
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from glimpse.fair_share import Asked, judged
from glimpse.places import Answer, Claim, Kind, PlaceCounts, Wait

LEASE_S, RECALL_S, GRACE_S = 5.0, 1.0, 2.0
TOTAL = 16

CLAIM = Claim(
    kind=Kind.PICTURES,
    holder="a",
    number=1,
    started=0,
    clock=0,
    total=TOTAL,
    held=0,
    used={},
    asked=(),
    few=0,
    ingresses=2,
)


def asked(id: int, owner: str, count: int = 1, waits: bool = False, holder: str = "a") -> Asked:
    """The ids are the order of arrival."""
    return Asked(holder, id, owner, count, since=id, waits=waits)


def counting(now: float = -GRACE_S) -> PlaceCounts:
    """A counter whose grace is over at 0."""
    return PlaceCounts(lease_s=LEASE_S, recall_s=RECALL_S, grace_s=GRACE_S, now=now)


def tell(counts: PlaceCounts, claim: Claim, now: float = 0) -> Claim:
    counts.tell(claim, now)
    return claim


def claim(holder: str, number: int = 1, *, spare: int = 0, needed: int = 0, **fields: Any) -> Claim:
    """Of a holder whose places are in use by an owner of its own, but for `spare`. That owner asks
    for as many more as are `needed`, one by one."""
    used = {holder: fields.get("held", 0) - spare}
    new = tuple(asked(n, holder, holder=holder) for n in range(needed))
    return replace(CLAIM, holder=holder, number=number, **{"used": used, "asked": new} | fields)


def granted(decision: Answer | Wait) -> int:
    assert isinstance(decision, Answer)
    return decision.granted


def test_a_few_beyond_the_need_are_granted_as_far_as_there_are_any() -> None:
    counts = counting()
    assert granted(counts.decide(tell(counts, claim("a", needed=9, few=2)), 0)) == 11
    assert granted(counts.decide(tell(counts, claim("b", needed=3, few=4)), 0)) == 5


def test_a_few_beyond_the_need_are_not_taken_from_those_that_ask() -> None:
    counts = counting()
    first = tell(counts, claim("a", needed=9, few=4))
    second = tell(counts, claim("b", needed=6, few=4))
    assert granted(counts.decide(first, 0)) == 10
    assert granted(counts.decide(second, 0)) == 6


def test_spare_places_are_recalled_before_anybody_is_refused() -> None:
    counts = counting()
    tell(counts, claim("b", held=10, spare=4))
    asking = tell(counts, claim("a", held=6, needed=3))
    assert counts.decide(asking, 0) == Wait(RECALL_S)
    assert counts.is_called("b")
    tell(counts, claim("b", 2, held=10, spare=4), 0.1)  # sent before the recall arrived
    assert counts.decide(asking, 0.1) == Wait(RECALL_S) and counts.is_called("b")
    tell(counts, claim("b", 3, held=8, spare=0), 0.2)
    assert not counts.is_called("b")
    assert granted(counts.decide(asking, 0.2)) == 2


def test_who_holds_and_does_not_answer_is_waited_for_once() -> None:
    counts = counting()
    tell(counts, claim("b", held=TOTAL, spare=4))
    asking = tell(counts, claim("a", needed=1))
    assert counts.decide(asking, 0) == Wait(RECALL_S)
    assert granted(counts.decide(asking, RECALL_S)) == 0
    assert granted(counts.decide(tell(counts, claim("a", 2, needed=1), RECALL_S), RECALL_S)) == 0


def test_two_that_ask_at_once_do_not_wait_for_each_other() -> None:
    counts = counting()
    first = tell(counts, claim("a", held=8, needed=1))
    second = tell(counts, claim("b", held=8, needed=1))
    assert granted(counts.decide(first, 0)) == 0
    assert isinstance(counts.decide(second, 0), Wait)  # the first may have something back by now
    tell(counts, claim("a", 2, held=7), 0)
    assert granted(counts.decide(second, 0)) == 1


def test_a_block_that_nobody_renews_is_free_again() -> None:
    counts = counting()
    tell(counts, claim("dead", held=TOTAL))
    tell(counts, claim("a"), LEASE_S - 0.1)
    asking = tell(counts, claim("a", 2, needed=1), LEASE_S)
    assert granted(counts.decide(asking, LEASE_S)) == 1


def test_a_claim_that_is_decided_after_its_lease_counts_for_nothing() -> None:
    counts = counting()
    asking = tell(counts, claim("a", needed=1))
    assert counts.decide(asking, LEASE_S) == Answer()
    again = tell(counts, replace(asking, number=2), LEASE_S)
    assert granted(counts.decide(again, LEASE_S)) == 1


def test_a_new_counter_grants_nothing_before_every_ingress_has_told() -> None:
    counts = counting(now=0)
    asking = tell(counts, claim("a", held=4, needed=1, ingresses=3), 0.1)
    assert counts.decide(asking, 0.1) == Wait(GRACE_S)
    tell(counts, claim("b", held=11, ingresses=2), 0.2)
    assert counts.decide(asking, 0.2) == Wait(GRACE_S)
    tell(counts, claim("c", held=1, ingresses=3), 0.3)
    assert isinstance(counts.decide(asking, 0.3), Wait)  # for what the others have to spare
    counts = counting(now=0)
    asking = tell(counts, claim("a", held=4, needed=1), 0.1)
    assert granted(counts.decide(asking, GRACE_S)) == 1  # nobody else has come


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
    assert granted(counts.decide(asking, 0.2)) == 0


def test_a_claim_that_a_later_one_has_overtaken_counts_for_nothing() -> None:
    counts = counting()
    late = claim("a", 1, held=0, needed=3)
    tell(counts, claim("a", 2, held=TOTAL))
    assert granted(counts.decide(tell(counts, late), 0)) == 0
    asking = tell(counts, claim("b", needed=1))
    assert isinstance(counts.decide(asking, 0), Wait)


def test_in_an_update_the_newest_settings_count() -> None:
    counts = counting()
    tell(counts, claim("old", held=4, started=1))
    new = tell(counts, claim("new", total=6, started=2, needed=6))
    assert isinstance(counts.decide(new, 0), Wait)
    tell(counts, claim("old", 2, held=4, started=1))
    assert granted(counts.decide(new, 0)) == 2


def test_a_claim_and_its_answer_survive_their_way_between_processes() -> None:
    for each in (claim("a", needed=1), Answer(1, frozenset({1}), frozenset({2}), True)):
        assert pickle.loads(pickle.dumps(each)) == each


def full(counts: PlaceCounts) -> None:
    """Two holders, whose places one owner has."""
    for holder in ("a", "b"):
        tell(counts, claim(holder, held=8, used={"many": 8}))


def test_a_request_that_waits_at_one_holder_gets_the_next_place_of_another() -> None:
    counts = counting()
    full(counts)
    poor = (asked(7, "one"),)
    asking = tell(counts, claim("a", 2, held=8, used={"many": 8}, asked=poor))
    assert counts.decide(asking, 0) == Wait(RECALL_S) and counts.is_called("b")
    tell(counts, claim("b", 2, held=8, used={"many": 8}))
    assert counts.decide(asking, 0) == Answer(short=True)  # it waits
    assert counts.short and not counts.is_called("a")
    # The other holder's owner has given a place back, and asks for it again.
    again = (asked(8, "many", holder="b"),)
    greedy = tell(counts, claim("b", 3, held=7, used={"many": 7}, asked=again))
    assert counts.is_called("a")
    assert counts.decide(greedy, 0) == Wait(RECALL_S)
    waiting = (asked(7, "one", waits=True),)
    asking = tell(counts, claim("a", 3, held=8, used={"many": 8}, asked=waiting))
    assert counts.decide(greedy, 0) == Answer(refused=frozenset({8}), short=False)
    assert counts.decide(asking, 0) == Answer(1, frozenset({7}))
    assert not counts.short and not counts.is_called("a")


def test_the_share_of_an_owner_counts_what_it_has_at_every_holder() -> None:
    counts = counting()
    tell(counts, claim("a", held=8, used={"many": 4, "one": 4}))
    tell(counts, claim("b", held=8, used={"many": 4, "one": 4}))
    asking = tell(
        counts, claim("a", 2, held=8, used={"many": 4, "one": 4}, asked=(asked(1, "one"),))
    )
    assert isinstance(counts.decide(asking, 0), Wait)
    tell(counts, claim("b", 2, held=8, used={"many": 4, "one": 4}))
    assert counts.decide(asking, 0) == Answer(refused=frozenset({1}))


def test_a_request_that_waits_asks_nobody_again_for_spare_places() -> None:
    """Or two holders with waiting requests would call each other for ever."""
    counts = counting()
    full(counts)
    for number in (2, 3):
        waiting = (asked(7, "one", waits=True),)
        asking = tell(counts, claim("a", number, held=8, used={"many": 8}, asked=waiting))
        assert counts.decide(asking, 0) == Answer(short=True)
        assert not counts.is_called("b")


def test_a_request_that_has_left_is_in_nobodys_way() -> None:
    counts = counting()
    full(counts)
    waiting = (asked(7, "one", 4, waits=True),)
    tell(counts, claim("a", 2, held=8, used={"many": 8}, asked=waiting))
    tell(counts, claim("b", 2, held=7, used={"many": 7}))
    tell(counts, claim("a", 3, held=8, used={"many": 8}))
    asking = tell(counts, claim("b", 3, held=7, used={"many": 7}, asked=(asked(8, "many"),)))
    assert granted(counts.decide(replace(asking, holder="b"), 0)) == 0  # a claim like the one told
    asking = tell(
        counts, claim("b", 4, held=7, used={"many": 7}, asked=(asked(8, "many", holder="b"),))
    )
    assert counts.decide(asking, 0) == Answer(1, frozenset({8}))


def test_the_age_of_a_request_is_told_and_not_its_holders_clock() -> None:
    counts = counting()
    full(counts)
    waiting = {
        "a": Asked("a", 1, "one", 1, since=1000, waits=True),
        "b": Asked("b", 1, "two", 1, since=3, waits=True),
    }
    for holder, clock in (("a", 1009), ("b", 4)):  # nine seconds, and one
        used = {"many": 8 if holder == "a" else 7}
        tell(
            counts,
            claim(
                holder, 2, clock=clock, held=sum(used.values()), used=used, asked=(waiting[holder],)
            ),
            now=50,
        )
    assert counts.is_called("a") and not counts.is_called("b")


@dataclass
class Holder:
    id: str
    held: int = 0
    used: Counter[str] = field(default_factory=Counter)
    asked: dict[int, Asked] = field(default_factory=dict)
    claims: int = 0

    @property
    def spare(self) -> int:
        return self.held - self.used.total()


class Ingresses(RuleBasedStateMachine):
    """Holders that come, work and die, over a counter that dies too. Living holders renew in time
    and answer calls; the dead are silent."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.counts = counting()
        self.holders: list[Holder] = []
        self.born = 0
        self.requests = 0

    def claim(self, holder: Holder, few: int = 0) -> Claim:
        holder.claims += 1
        told = claim(
            holder.id,
            holder.claims,
            clock=self.now,
            held=holder.held,
            used=dict(holder.used),
            asked=tuple(holder.asked.values()),
            few=few,
            ingresses=len(self.holders),
        )
        self.counts.tell(told, self.now)
        return told

    def decided(self, holder: Holder, few: int = 0) -> Answer:
        """The answer to a claim, which the holder obeys. Who is called meanwhile gives back what it
        does not use."""
        told = self.claim(holder, few)
        while isinstance(decision := self.counts.decide(told, self.now), Wait):
            called = [each for each in self.holders if self.counts.is_called(each.id)]
            called = [each for each in called if each is not holder]
            for each in called:
                each.held -= each.spare
                self.claim(each)
            if not called:
                self.now = decision.until
        holder.held += decision.granted
        for id in decision.admitted:
            request = holder.asked.pop(id)
            holder.used[request.owner] += request.count
        for id in decision.refused:
            assert not holder.asked.pop(id).waits
        holder.asked = {id: replace(each, waits=True) for id, each in holder.asked.items()}
        return decision

    def settle(self) -> None:
        """While places are short nobody keeps one in advance, and who is called claims."""
        if self.counts.short:
            for holder in self.holders:
                holder.held -= holder.spare
                self.claim(holder)
        for _ in range(100):
            called = [each for each in self.holders if self.counts.is_called(each.id)]
            if not called:
                return
            for holder in called:
                holder.held -= holder.spare
                self.decided(holder)
        raise AssertionError("they call each other for ever")

    @precondition(lambda self: len(self.holders) < 5)
    @rule()
    def comes(self) -> None:
        self.born += 1
        self.holders.append(Holder(str(self.born)))
        self.claim(self.holders[-1])

    @precondition(lambda self: self.holders)
    @rule(
        data=st.data(),
        owners=st.lists(st.sampled_from("abcd"), min_size=1, max_size=6),
        count=st.integers(1, 4),
        few=st.integers(0, 4),
    )
    def asks(self, data: st.DataObject, owners: list[str], count: int, few: int) -> None:
        """Once it has used what it holds."""
        holder = data.draw(st.sampled_from(self.holders))
        holder.used[owners[0]] += holder.spare
        for owner in owners:
            self.requests += 1
            holder.asked[self.requests] = Asked(holder.id, self.requests, owner, count, self.now)
        self.decided(holder, few)

    @precondition(lambda self: any(holder.asked for holder in self.holders))
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from([each for each in self.holders if each.asked]))
        del holder.asked[data.draw(st.sampled_from(sorted(holder.asked)))]
        self.claim(holder)

    @precondition(lambda self: any(holder.used for holder in self.holders))
    @rule(data=st.data())
    def ends_some(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from([each for each in self.holders if each.used]))
        owner = data.draw(st.sampled_from(sorted(holder.used)))
        holder.used[owner] -= data.draw(st.integers(0, holder.used[owner]))
        holder.used = +holder.used

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def gives_back(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(self.holders))
        holder.held -= data.draw(st.integers(0, holder.spare))
        self.claim(holder)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        self.holders.remove(data.draw(st.sampled_from(self.holders)))

    @rule(seconds=st.floats(0, LEASE_S / 2))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for holder in self.holders:
            self.claim(holder)

    @rule()
    def the_counter_dies(self) -> None:
        self.counts = counting(self.now)
        for holder in self.holders:
            self.claim(holder)

    @rule()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        for _ in range(3):  # the dead have lapsed
            self.time_passes(LEASE_S / 2)
        if not self.holders:
            return
        self.decided(self.holders[0])
        self.settle()
        used = sum((holder.used for holder in self.holders), Counter[str]())
        waiting = [each for holder in self.holders for each in holder.asked.values()]
        free = TOTAL - used.total()
        assert judged(waiting, free=free, total=TOTAL, used=used).admitted == ()
        self.never_more_than_the_total()

    @invariant()
    def never_more_than_the_total(self) -> None:
        assert sum(holder.held for holder in self.holders) <= TOTAL
        assert all(holder.spare >= 0 for holder in self.holders)

    def teardown(self) -> None:
        """No place is lost: once the dead have lapsed, one holder gets all that nobody uses."""
        for holder in self.holders:
            holder.asked.clear()
        for _ in range(3):
            self.time_passes(LEASE_S / 2)
        self.holders.append(last := Holder("last"))
        used = sum(holder.used.total() for holder in self.holders)
        last.asked = {n: Asked(last.id, n, "last", 1, self.now) for n in range(TOTAL)}
        assert len(self.decided(last).admitted) == TOTAL - used


Ingresses.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=30)
TestIngresses = Ingresses.TestCase
