"""`glimpse.engine.batcher`: who steps together, in which order, and that nobody is forgotten."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Hashable
from typing import Any, TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from glimpse.engine.batcher import MOST_ROWS, RESERVED_EVERY, Batcher, End, Entry, Plan
from glimpse.ports import Priority


def plan_of(batcher: Batcher[Any]) -> Plan[Any]:
    plan = batcher.plan()
    assert plan is not None
    return plan


def tick(batcher: Batcher[Any]) -> tuple[Any, ...]:
    """Runs one tick that ends nobody."""
    plan = plan_of(batcher)
    batcher.commit(plan)
    return plan.keys


def batcher_of(*entries: Entry[Any], row_budget: int = 8) -> Batcher[Any]:
    batcher: Batcher[Any] = Batcher(row_budget)
    for entry in entries:
        batcher.admit(entry)
    return batcher


def test_jobs_of_a_group_share_a_tick_up_to_the_budget() -> None:
    batcher = batcher_of(*(Entry(i, 2, "square") for i in range(5)), row_budget=8)
    plan = plan_of(batcher)
    assert (plan.keys, plan.rows, plan.group) == ((0, 1, 2, 3), 8, "square")


def test_the_last_row_is_for_a_job_that_fits() -> None:
    entries = Entry("a", 2, "g"), Entry("b", 2, "g"), Entry("c", 1, "g")
    assert tick(batcher_of(*entries, row_budget=3)) == ("a", "c")


def test_the_order_is_class_then_deadline_then_age() -> None:
    batcher = batcher_of(
        Entry("background", 1, "g", Priority.BACKGROUND, 1.0),
        Entry("no hurry, older", 1, "g"),
        Entry("no hurry", 1, "g"),
        Entry("some hurry", 1, "g", deadline=50.0),
        Entry("hurry", 1, "g", deadline=40.0),
        Entry("realtime", 1, "g", Priority.REALTIME),
    )
    order = ("realtime", "hurry", "some hurry", "no hurry, older", "no hurry", "background")
    assert tick(batcher) == order


def test_groups_take_turns() -> None:
    batcher = batcher_of(Entry("a", 1, "x"), Entry("b", 1, "y"), Entry("c", 1, "y"))
    ticks = [tick(batcher) for _ in range(4)]
    assert ticks == [("a",), ("b", "c"), ("a",), ("b", "c")]


def test_a_group_that_comes_and_goes_does_not_starve_the_others() -> None:
    batcher = batcher_of(Entry("long", 1, "x"))
    stepped = 0
    for number in range(10):
        batcher.admit(Entry(number, 1, "y"))
        for _ in range(2):
            plan = plan_of(batcher)
            stepped += "long" in plan.keys
            batcher.commit(plan, done=[key for key in plan.keys if key != "long"])
    assert stepped == 10


def test_one_job_does_not_wait_for_the_many_of_another_owner() -> None:
    many = [Entry(("many", i), 2, "g", owner="many") for i in range(24)]
    batcher = batcher_of(*many, Entry("one", 2, "g", owner="one"))
    assert tick(batcher) == (("many", 0), "one", ("many", 1), ("many", 2))
    assert all("one" in tick(batcher) for _ in range(20))


def test_owners_of_different_groups_take_turns() -> None:
    many = [Entry(("many", i), 1, size, owner="many") for i, size in enumerate("vwxyz")]
    batcher = batcher_of(*many, Entry("one", 1, "u", owner="one"))
    ticks = [tick(batcher) for _ in range(10)]
    assert ticks[1::2] == [("one",)] * 5
    assert {key for each in ticks[::2] for key in each} == {entry.key for entry in many}


def test_the_owner_leads_whose_last_step_is_longest_ago_in_whatever_tick_it_was() -> None:
    batcher = batcher_of(
        Entry("a", 1, "x", owner="a"),
        Entry("b", 1, "x", owner="b"),
        Entry("c", 1, "y", owner="c"),
        row_budget=2,
    )
    assert [tick(batcher) for _ in range(4)] == [("a", "b"), ("c",), ("a", "b"), ("c",)]
    batcher.admit(Entry("d", 1, "y", owner="d"))
    assert [tick(batcher) for _ in range(3)] == [("a", "b"), ("c", "d"), ("a", "b")]


def test_free_rows_go_to_other_owners_before_more_of_the_same() -> None:
    batcher = batcher_of(
        *(Entry(f"a{i}", 1, "g", owner="a") for i in range(4)),
        *(Entry(f"b{i}", 1, "g", owner="b") for i in range(2)),
        Entry("c", 1, "g", owner="c"),
        *(Entry(f"low{i}", 1, "g", Priority.BACKGROUND, owner=f"{i}") for i in range(2)),
        row_budget=6,
    )
    assert tick(batcher) == ("a0", "b0", "c", "a1", "b1", "a2")
    batcher.row_budget = 8
    assert tick(batcher) == ("a0", "b0", "c", "a1", "b1", "a2", "a3", "low0")


def test_the_deadline_decides_among_the_jobs_of_one_owner() -> None:
    batcher = batcher_of(
        Entry("a", 1, "g", owner="a"),
        Entry("hurried", 1, "g", deadline=1.0, owner="b"),
        Entry("more hurried", 1, "g", deadline=0.5, owner="b"),
        row_budget=2,
    )
    assert tick(batcher) == ("more hurried", "a")
    batcher.admit(Entry("new", 1, "g", deadline=0.1, owner="c"))
    assert [tick(batcher) for _ in range(2)] == [("more hurried", "a"), ("new", "more hurried")]


def test_who_cancels_in_mid_tick_has_had_its_turn() -> None:
    batcher = batcher_of(
        *(Entry(("many", i), 2, "g", owner="many") for i in range(8)),
        Entry("one", 2, "g", owner="one"),
        row_budget=2,
    )
    led = []
    for _ in range(6):
        plan = plan_of(batcher)
        if plan.keys != ("one",):
            batcher.cancel(plan.keys[0])
        batcher.commit(plan)
        led.append(plan.keys == ("one",))
    assert led == [False, True] * 3


def test_in_each_class_an_owner_has_turns_of_its_own() -> None:
    batcher = batcher_of(
        Entry("a", 2, "g", Priority.REALTIME, owner="a"),
        Entry("a too", 2, "g", owner="a"),
        Entry("b", 2, "g", owner="b"),
        row_budget=4,
    )
    assert [tick(batcher) for _ in range(4)] == [("a", "a too"), ("a", "b")] * 2
    batcher = batcher_of(
        *(Entry(("a", i), 2, "g", Priority.REALTIME, owner="a") for i in range(2)),
        Entry("b", 2, "g", Priority.REALTIME, owner="b"),
        Entry("low", 2, "g", owner="c"),
        row_budget=4,
    )
    ticks = [tick(batcher) for _ in range(RESERVED_EVERY)]
    assert all("b" in each for each in ticks[:-1])
    assert ticks[-1][0] == "low"


def test_a_realtime_job_leads_the_next_tick() -> None:
    background = [Entry(i, 2, "x", Priority.BACKGROUND) for i in range(16)]
    batcher = batcher_of(*background)
    for _ in range(20):
        tick(batcher)
    batcher.admit(Entry("realtime", 2, "y", Priority.REALTIME))
    assert tick(batcher) == ("realtime",)


def test_one_tick_in_eight_is_for_the_classes_below() -> None:
    batcher = batcher_of(
        Entry("realtime", 1, "x", Priority.REALTIME),
        Entry("interactive", 1, "y", Priority.INTERACTIVE),
        Entry("background", 1, "z", Priority.BACKGROUND),
    )
    ticks = [tick(batcher) for _ in range(RESERVED_EVERY**2)]
    assert ticks[RESERVED_EVERY - 1 :: RESERVED_EVERY] == [("interactive",)] * 7 + [("background",)]
    assert ticks.count(("realtime",)) == 56


def test_in_its_reserved_tick_a_lower_class_goes_before_the_higher_one() -> None:
    realtime = [Entry(i, 2, "g", Priority.REALTIME) for i in range(2)]
    batcher = batcher_of(*realtime, Entry("low", 2, "g", Priority.BACKGROUND), row_budget=4)
    ticks = [tick(batcher) for _ in range(RESERVED_EVERY)]
    assert ticks == [(0, 1)] * (RESERVED_EVERY - 1) + [("low", 0)]


def test_a_tick_that_was_not_run_is_planned_again_within_the_new_budget() -> None:
    batcher = batcher_of(*(Entry(i, 2, "g") for i in range(4)))
    assert plan_of(batcher).rows == 8
    batcher.row_budget //= 2
    assert plan_of(batcher).keys == (0, 1)


def test_a_job_cancelled_in_mid_tick_has_ended_before() -> None:
    batcher = batcher_of(Entry("a", 1, "g"), Entry("b", 1, "g"), Entry("c", 1, "g"))
    plan = plan_of(batcher)
    assert batcher.cancel("a")
    assert not batcher.cancel("a")
    assert batcher.commit(plan, done={"a"}, failed={"b"}) == {"b": End.FAILED}
    assert not batcher.cancel("b")
    assert tick(batcher) == ("c",)


def test_a_job_that_is_alone_leads_every_tick_until_it_is_released() -> None:
    batcher = batcher_of(
        Entry("realtime", 1, "g", Priority.REALTIME),
        Entry("suspect", 1, "g", Priority.BACKGROUND, alone=True),
        Entry("other", 1, "g", deadline=1.0),
        Entry("younger suspect", 1, "g", Priority.REALTIME, alone=True),
    )
    for _ in range(3 * RESERVED_EVERY):
        assert tick(batcher) == ("suspect",)
    plan = plan_of(batcher)
    batcher.release("suspect")
    batcher.commit(plan)
    assert tick(batcher) == ("younger suspect",)
    batcher.release("younger suspect")
    batcher.release("younger suspect")
    batcher.release("nobody")
    assert tick(batcher) == ("realtime", "younger suspect", "other", "suspect")


def test_ticks_of_a_job_that_is_alone_are_no_turns_of_its_class() -> None:
    alike: list[Batcher[Any]] = []
    for suspects in (0, 1):
        batcher = batcher_of(
            Entry("realtime", 1, "g", Priority.REALTIME),
            Entry("low", 2, "h", Priority.BACKGROUND),
        )
        for _ in range(5):
            tick(batcher)
        for _ in range(20 * suspects):
            batcher.cancel("suspect")
            batcher.admit(Entry("suspect", 1, "g", Priority.REALTIME, alone=True))
            assert tick(batcher) == ("suspect",)
        batcher.cancel("suspect")
        alike.append(batcher)
    one, other = ([tick(batcher) for _ in range(20)] for batcher in alike)
    assert one == other


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="may need 2 rows"):
        Batcher(MOST_ROWS - 1)
    batcher = batcher_of(Entry("a", 1, "g"), Entry("b", 1, "h"))
    with pytest.raises(ValueError, match="here already"):
        batcher.admit(Entry("a", 1, "g"))
    with pytest.raises(ValueError, match="1 to 2 rows"):
        batcher.admit(Entry("c", MOST_ROWS + 1, "g"))
    for ends in ({"done": {"b"}}, {"done": {"a"}, "failed": {"a"}}):
        with pytest.raises(ValueError, match="jobs of its plan"):
            batcher.commit(plan_of(batcher), **ends)


# How many ticks a class waits at most while it has jobs.
LONGEST_WAIT = {
    Priority.REALTIME: RESERVED_EVERY,
    Priority.INTERACTIVE: RESERVED_EVERY**2,
    Priority.BACKGROUND: RESERVED_EVERY**2,
}


Owner: TypeAlias = tuple[Priority, Hashable]


class AnyOrder(RuleBasedStateMachine):
    """Arrivals, cancels, ticks, failures and memory running out, in any order."""

    keys: Bundle[int] = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.batcher: Batcher[int] = Batcher(8)
        self.count = 0
        self.entries: dict[int, Entry[int]] = {}
        self.ends: dict[int, list[End]] = defaultdict(list)
        self.plan: Plan[int] | None = None
        self.waited = dict.fromkeys(Priority, 0)
        self.planned_for: set[Owner] = set()  # the owners that had jobs when the tick was planned
        # The ticks that the class of an owner has led since the owner's last step or its arrival,
        # and how many owners the class had at the first of them.
        self.waits: dict[Owner, tuple[int, int]] = {}

    def owners(self) -> set[Owner]:
        return {(entry.priority, entry.owner) for entry in self.entries.values()}

    def end(self, key: int, end: End) -> None:
        self.ends[key].append(end)
        entry = self.entries.pop(key)
        owner = entry.priority, entry.owner
        if owner not in self.owners():
            self.waits.pop(owner, None)  # should it come back, it comes as a new one

    @rule(
        target=keys,
        rows=st.integers(1, MOST_ROWS),
        group=st.sampled_from("uvwxyz"),
        priority=st.sampled_from(Priority),
        deadline=st.sampled_from([1.0, 2.0, math.inf]),
        alone=st.sampled_from([False, False, False, True]),
        owner=st.sampled_from("abcde"),
    )
    def arrive(
        self, rows: int, group: str, priority: Priority, deadline: float, alone: bool, owner: str
    ) -> int:
        return self.admit(rows, group, priority, deadline, alone, owner)

    @rule(
        target=keys,
        groups=st.sets(st.sampled_from("uvwxyz"), min_size=3),
        priority=st.sampled_from(Priority),
        owner=st.sampled_from("abcde"),
    )
    def arrive_in_many_sizes(
        self, groups: set[str], priority: Priority, owner: str
    ) -> MultipleResults[int]:
        return multiple(
            *(self.admit(1, each, priority, math.inf, False, owner) for each in sorted(groups))
        )

    def admit(
        self, rows: int, group: str, priority: Priority, deadline: float, alone: bool, owner: str
    ) -> int:
        self.count += 1
        entry = Entry(self.count, rows, group, priority, deadline, alone, owner)
        self.batcher.admit(entry)
        self.entries[self.count] = entry
        return self.count

    @rule(key=consumes(keys))
    def cancel(self, key: int) -> None:
        assert self.batcher.cancel(key) == (key in self.entries)
        if key in self.entries:
            self.end(key, End.CANCELLED)

    @rule(key=keys)
    def release(self, key: int) -> None:
        self.batcher.release(key)
        if key in self.entries:
            self.entries[key] = dataclasses.replace(self.entries[key], alone=False)

    @rule(rows=st.integers(MOST_ROWS, 12))
    def change_the_budget(self, rows: int) -> None:
        self.batcher.row_budget = rows

    @precondition(lambda self: self.plan is None)
    @rule()
    def begin_a_tick(self) -> None:
        plan = self.batcher.plan()
        assert (plan is None) == (not self.entries)
        if plan is None:
            return
        members = [self.entries[key] for key in plan.keys]  # a KeyError: it had ended
        assert len(set(plan.keys)) == len(plan.keys) > 0
        assert {entry.group for entry in members} == {plan.group}
        assert sum(entry.rows for entry in members) == plan.rows <= self.batcher.row_budget
        assert any(entry.priority == plan.led_by for entry in members)
        alone = [key for key, entry in self.entries.items() if entry.alone]
        assert plan.alone == bool(alone)
        assert not alone or plan.keys == (min(alone),)
        assert plan.owners == {(entry.priority, entry.owner) for entry in members} or plan.alone
        self.plan = plan
        self.planned_for = self.owners()

    @precondition(lambda self: self.plan is not None)
    @rule(data=st.data())
    def end_a_tick(self, data: st.DataObject) -> None:
        assert self.plan is not None
        plan = self.plan
        self.end_of(
            {key: data.draw(st.sampled_from(["on", "done", "failed"])) for key in plan.keys}
        )

    @precondition(lambda self: self.plan is None)
    @rule(ticks=st.integers(1, 12))
    def tick_a_while(self, ticks: int) -> None:
        for _ in range(ticks):
            self.begin_a_tick()
            if self.plan is None:
                return
            self.end_of(dict.fromkeys(self.plan.keys, "on"))
            self.of_k_owners_each_is_stepped_in_k_ticks_that_its_class_leads()
            self.every_class_waits_a_bounded_time()

    def end_of(self, fates: dict[int, str]) -> None:
        assert self.plan is not None
        plan, self.plan = self.plan, None
        stepped = {self.entries[key].priority for key in plan.keys if key in self.entries}
        here = {entry.priority for entry in self.entries.values()}
        ended = self.batcher.commit(
            plan,
            done=[key for key, fate in fates.items() if fate == "done"],
            failed=[key for key, fate in fates.items() if fate == "failed"],
        )
        if not plan.alone:
            self.count_waits(plan)
        for key, end in ended.items():
            assert fates[key] == end.name.lower()
            self.end(key, end)
        for priority in Priority:
            if plan.alone and priority in here and priority not in stepped:
                continue  # that one goes before all others
            idle = priority not in here or priority in stepped
            self.waited[priority] = 0 if idle else self.waited[priority] + 1

    def count_waits(self, plan: Plan[int]) -> None:
        rivals = sum(priority == plan.led_by for priority, _ in self.planned_for)
        for owner in self.planned_for & self.owners():
            if owner in plan.owners:
                self.waits.pop(owner, None)
            elif owner[0] == plan.led_by:
                ticks, owners = self.waits.get(owner, (0, rivals))
                self.waits[owner] = ticks + 1, owners

    @precondition(lambda self: self.plan is not None)
    @rule()
    def run_out_of_memory(self) -> None:
        self.plan = None

    @invariant()
    def all_that_have_not_ended_are_there(self) -> None:
        assert len(self.batcher) == len(self.entries)

    @invariant()
    def no_job_ends_twice(self) -> None:
        assert all(len(ends) == 1 for ends in self.ends.values())

    @invariant()
    def every_class_waits_a_bounded_time(self) -> None:
        for priority, ticks in self.waited.items():
            assert ticks <= LONGEST_WAIT[priority]

    @invariant()
    def of_k_owners_each_is_stepped_in_k_ticks_that_its_class_leads(self) -> None:
        assert all(ticks < owners for ticks, owners in self.waits.values())

    def teardown(self) -> None:
        """Left alone, every job steps and comes to its end."""
        for _ in range(1000):
            plan = self.batcher.plan()
            if plan is None:
                break
            for key, end in self.batcher.commit(plan, done=plan.keys).items():
                self.end(key, end)
        assert not self.entries
        assert len(self.ends) == self.count


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
