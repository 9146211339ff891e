"""`glimpse.watch`: what is a stall, and what only takes long."""

import threading
from collections.abc import Iterator

import pytest

from glimpse.watch import (
    FAIR_SHARE,
    INTERVAL_S,
    TIMES_USUAL,
    Bounds,
    Calls,
    Lane,
    Patience,
    Phase,
    Watch,
    cpu_share,
)
from glimpse.watch import phase as announced

BOUNDS = Bounds(stall_s=5, loading_s=900, compiling_s=600, recording_s=120, first_call_s=60)


class Machine:
    """A clock, and what of a CPU this process gets; polls as time goes by."""

    def __init__(self) -> None:
        self.now = 0.0
        self.share = 1.0
        self.burst_every = 10**6  # measurements: then it gets a CPU of its own, for a moment
        self.measured = 0
        self.watch = Watch(BOUNDS, clock=lambda: self.now, share=self.measure)
        self.work = 0
        self.lane: Lane = self.watch.lane(lambda: self.work)

    def measure(self) -> float:
        self.measured += 1
        return self.share if self.measured % self.burst_every else 1.0

    def passes(self, seconds: float) -> float:
        """Gives how long it took until the thread was found to stand still, at most so long."""
        end = self.now + seconds
        while self.now < end and not self.watch.stalled:
            self.now += INTERVAL_S
            self.watch.poll()
        return self.now - end + seconds

    def call(self, seconds: float, kind: str = "tick") -> None:
        with self.watch.call(kind):
            self.now += seconds
        self.lane.moved = True
        self.watch.poll()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    machine.watch.attach()
    yield machine
    Watch().attach()


def test_work_of_which_nothing_ends_is_a_stall(machine: Machine) -> None:
    machine.work = 1
    assert 5 <= machine.passes(60) <= 5 + INTERVAL_S
    assert machine.watch.stalls == 1


def test_without_work_nothing_has_to_end(machine: Machine) -> None:
    machine.passes(60)
    machine.work = 1
    assert machine.passes(60) >= 5


def test_as_long_as_something_ends_it_goes_on_however_much_waits(machine: Machine) -> None:
    machine.work = 40
    for _ in range(100):
        assert machine.passes(4) == 4
        machine.lane.moved = True
    assert machine.watch.stalls == 0


def test_what_ends_in_one_lane_does_not_hide_another_that_stands_still(machine: Machine) -> None:
    jobs = machine.watch.lane(lambda: 1)
    for _ in range(20):
        machine.passes(1)
        machine.lane.moved = True
    assert machine.watch.stalled
    jobs.moved = True
    machine.passes(INTERVAL_S)
    machine.watch.poll()
    assert not machine.watch.stalled


def test_a_stall_is_over_when_something_ends_and_is_told_of_once(machine: Machine) -> None:
    told: list[float] = []

    def alarm() -> None:
        told.append(machine.now)
        raise RuntimeError("nobody there")

    machine.watch.alarms.add(alarm)
    machine.work = 1
    for count in (1, 2):
        machine.passes(60)
        for _ in range(10):
            machine.watch.poll()
        assert machine.watch.stalled and len(told) == count
        machine.lane.moved = True
        machine.watch.poll()
        assert not machine.watch.stalled


def test_the_bound_is_a_multiple_of_what_calls_usually_take(machine: Machine) -> None:
    for kind, seconds in (("tick", 0.1), ("decode", 1.0), ("tick", 30.0), ("tick", 0.1)):
        machine.call(seconds, kind)
    machine.work = 1
    took = machine.passes(300)
    assert TIMES_USUAL * 1.0 <= took <= TIMES_USUAL * 1.0 + 1


@pytest.mark.parametrize(
    ("phase", "bound_s"),
    [("loading", 900), ("compiling", 600), ("recording", 120), ("first call", 60)],
)
def test_a_phase_has_its_own_bound(machine: Machine, phase: Phase, bound_s: float) -> None:
    machine.work = 1
    with announced(phase):
        assert machine.passes(2000) == pytest.approx(bound_s, abs=2 * INTERVAL_S)
    machine.watch.poll()
    assert not machine.watch.stalled
    assert machine.passes(60) <= 6


def test_a_phase_within_another_has_the_longer_bound_of_both(machine: Machine) -> None:
    machine.work = 1
    with announced("compiling"), announced("recording"):
        assert machine.passes(500) == 500


def test_what_a_phase_takes_is_not_what_calls_usually_take(machine: Machine) -> None:
    with machine.watch.call("tick"), announced("compiling"):
        machine.now += 300
    machine.call(0.1)
    assert machine.watch.bound_s == 5


def test_the_first_call_of_each_shape_is_a_phase_and_a_later_one_may_take_as_long(
    machine: Machine,
) -> None:
    calls = Calls()
    machine.work = 1
    for shape in ((2, 64), (8, 64)):
        with calls.of(*shape):
            assert machine.passes(30) == 30
    with calls.of(2, 64):
        assert machine.passes(30 * TIMES_USUAL - 1) == 30 * TIMES_USUAL - 1
    small = Calls()
    for _ in range(2):
        with small.of(1):
            machine.now += 0.01
    with small.of(1):
        assert machine.passes(60) <= 6


def test_a_first_call_that_fails_was_none(machine: Machine) -> None:
    calls = Calls("compiling")
    with pytest.raises(MemoryError), calls.of(2):
        raise MemoryError
    machine.work = 1
    with calls.of(2):
        assert machine.passes(500) == 500


def test_a_starved_process_is_given_as_much_longer(machine: Machine) -> None:
    machine.work = 1
    machine.share = FAIR_SHARE / 10
    assert machine.passes(49) == 49
    assert machine.passes(2) < 2


def test_a_busy_machine_is_not_a_starved_one(machine: Machine) -> None:
    """Two denoisers on two cores: what its calls usually take tells how busy it is."""
    machine.work = 1
    machine.share = FAIR_SHARE
    assert machine.passes(4) == 4
    assert machine.passes(2) < 2


def test_a_moment_with_a_cpu_does_not_make_a_starved_process_a_hung_one(machine: Machine) -> None:
    machine.work = 1
    machine.share, machine.burst_every = FAIR_SHARE / 10, 4
    assert machine.passes(35) == 35
    assert machine.passes(10) < 10


def test_what_ends_while_the_share_is_measured_counts(machine: Machine) -> None:
    machine.work = 1

    def measure() -> float:
        machine.lane.moved = machine.now >= 5
        return 1.0

    machine.watch._patience = Patience(measure)
    assert machine.passes(9) == 9


def test_a_process_that_was_stopped_finds_no_stall_in_the_gap(machine: Machine) -> None:
    machine.work = 1
    machine.passes(3)
    for _ in range(2):
        machine.now += 3600
        machine.watch.poll()
        assert not machine.watch.stalled
        machine.lane.moved = True
        machine.watch.poll()


def test_without_bounds_nothing_is_ever_a_stall() -> None:
    machine = Machine()
    machine.watch = Watch(clock=lambda: machine.now, share=machine.measure)
    machine.lane = machine.watch.lane(lambda: 1)
    assert machine.passes(10_000) == 10_000
    assert machine.measured == 0


def test_announcements_elsewhere_than_on_a_watched_thread_are_nobodys(machine: Machine) -> None:
    seen: list[int] = []

    def elsewhere() -> None:
        with announced("loading"), Calls().of(1):
            seen.append(len(machine.watch._phases))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [0]


def test_a_watch_that_is_started_polls_by_itself() -> None:
    found = threading.Event()
    watch = Watch(Bounds(stall_s=0), share=lambda: 1.0)
    watch.lane(lambda: 1)
    watch.alarms.add(found.set)
    watch.start()
    try:
        assert found.wait(10)
    finally:
        watch.close()


def test_the_share_of_a_cpu_is_a_share() -> None:
    assert 0 < cpu_share() <= 1
