"""A watchdog for the torch thread: whether it stands still while there is work.

A thread stalls, not a job: there is work, no phase is announced, and nothing has ended for a bound.
The bound grows with the usual duration of calls, and with how little of a CPU this process gets, so
that a starved machine is not taken for a hung one. No torch, no asyncio.
"""

import hashlib
import logging
import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cachetools import LRUCache

logger = logging.getLogger(__name__)

INTERVAL_S = 0.5
"""Between two polls. A poll that comes late counts at most two of them: a process that was stopped,
or a machine that was suspended, finds no stall in the gap."""
TIMES_USUAL = 20
"""The bound of a call, in multiples of its usual duration."""
CALLS, KINDS, SHAPES = 64, 32, 256
FAIR_SHARE = 0.2
"""A process that gets less of a CPU is starved."""
SHARE_CPU_S = 0.02
"""CPU time to burn, to see how long it takes."""

Phase: TypeAlias = Literal["loading", "compiling", "recording", "first call"]


class Stalled(Exception):
    """The torch thread hangs, and with it the work that the caller waits for."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """In seconds: for a call as usual, and for each phase. By themselves there are none."""

    stall_s: float = math.inf
    loading_s: float = math.inf
    compiling_s: float = math.inf
    recording_s: float = math.inf
    first_call_s: float = math.inf

    def of(self, phase: Phase) -> float:
        bounds: dict[Phase, float] = {
            "loading": self.loading_s,
            "compiling": self.compiling_s,
            "recording": self.recording_s,
            "first call": self.first_call_s,
        }
        return bounds[phase]


UNBOUNDED = Bounds()


@dataclass(slots=True, eq=False)
class Lane:
    """Work of which something ends all the time, or else the thread stands still. `work` counts
    what there is; who does it sets `moved` when something ends, and when the first arrives."""

    work: Callable[[], int]
    moved: bool = False
    idle_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Announced:
    phase: Phase
    age_s: float = 0.0


def cpu_share() -> float:
    """The share of a CPU that this thread gets: 1 where it never waits. Takes 20 ms of a CPU, and
    lets go of the interpreter's lock."""
    block = bytes(2**18)
    wall, cpu = time.monotonic(), time.thread_time()
    while (used := time.thread_time() - cpu) < SHARE_CPU_S:
        hashlib.sha256(block)
    return min(1.0, used / max(time.monotonic() - wall, used))


class Patience:
    """How many times its bound something may take, because this process gets little of a CPU.

    A busy machine asks for none: what calls usually take tells that. A starved one does. Its share
    is measured again and again, as a thread that has slept may get a CPU at once, for a moment.
    """

    def __init__(self, share: Callable[[], float] = cpu_share) -> None:
        self._share = share
        self._measured: list[float] = []

    @property
    def times(self) -> float:
        return statistics.mean(self._measured) if self._measured else 1.0

    def measure(self) -> None:
        """Takes 20 ms of a CPU, and as long as it takes to get them."""
        self._measured.append(max(1.0, FAIR_SHARE / self._share()))

    def forget(self) -> None:
        self._measured.clear()


class Watch:
    """Watches one torch thread. `stalled` says whether it stands still, as of the last poll."""

    def __init__(
        self,
        bounds: Bounds = UNBOUNDED,
        *,
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = cpu_share,
    ) -> None:
        self.bounds = bounds
        self.stalled = False
        self.stalls = 0
        self.alarms: set[Callable[[], object]] = set()
        """Called by the poll that finds a stall, on whichever thread it is."""
        self.clock = clock
        self._patience = Patience(share)
        self._lanes: list[Lane] = []
        self._phases: list[_Announced] = []
        self._expected_s = 0.0
        self._phased = False
        self._seconds: LRUCache[Hashable, deque[float]] = LRUCache(KINDS)
        self._lock = threading.Lock()  # of what calls took
        self._polled = clock()
        self._ended = threading.Event()

    def lane(self, work: Callable[[], int]) -> Lane:
        lane = Lane(work)
        self._lanes.append(lane)
        return lane

    def start(self) -> None:
        """Polls on a thread of its own, until `close`."""
        threading.Thread(target=self._poll_on, name="watch", daemon=True).start()

    def close(self) -> None:
        self._ended.set()

    def raise_if_stalled(self) -> None:
        if self.stalled:
            raise Stalled("the torch thread stands still")

    # On the torch thread.

    def attach(self) -> None:
        """From now on what this thread announces is announced here."""
        _here.watch = self

    @contextmanager
    def call(self, kind: Hashable) -> Iterator[None]:
        """One function of the thread. What it took counts as usual, unless it had a phase."""
        self._phased = False
        began = self.clock()
        try:
            yield
        finally:
            if not self._phased:
                self._remember(kind, self.clock() - began)

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        announced = _Announced(phase)
        self._phases.append(announced)
        self._move()
        try:
            yield
        finally:
            self._phases.remove(announced)
            self._phased = True
            self._move()

    @contextmanager
    def expecting(self, seconds: float) -> Iterator[None]:
        """The last call like the one in this block took so long."""
        before, self._expected_s = self._expected_s, seconds
        try:
            yield
        finally:
            self._expected_s = before

    def _remember(self, kind: Hashable, seconds: float) -> None:
        with self._lock:
            calls = self._seconds.get(kind)
            if calls is None:
                calls = self._seconds[kind] = deque(maxlen=CALLS)
            calls.append(seconds)

    def _move(self) -> None:
        for lane in self._lanes:
            lane.moved = True

    # On the thread that polls.

    def poll(self) -> None:
        now = self.clock()
        passed, self._polled = min(now - self._polled, 2 * INTERVAL_S), now
        for announced in tuple(self._phases):
            announced.age_s += passed
        for lane in self._lanes:
            busy, lane.moved = lane.work() and not lane.moved, False
            lane.idle_s = lane.idle_s + passed if busy else 0.0
        was, self.stalled = self.stalled, self._stands_still()
        if self.stalled and not was:
            self.stalls += 1
            idle_s = max(lane.idle_s for lane in self._lanes)
            logger.error(
                "the torch thread stands still: there is work, and nothing ended for %.1f s", idle_s
            )
            for alarm in tuple(self.alarms):
                try:
                    alarm()
                except Exception:
                    logger.exception("nobody could be told that the torch thread stands still")

    @property
    def bound_s(self) -> float:
        """How long nothing may end, on a CPU of one's own."""
        with self._lock:
            usual = [statistics.median(calls) for calls in self._seconds.values()]
        return max(self.bounds.stall_s, TIMES_USUAL * max([self._expected_s, *usual]))

    def _stands_still(self) -> bool:
        idle_s = max((lane.idle_s for lane in self._lanes), default=0.0)
        # The bound is never less than stall_s, and takes a moment to tell.
        if 2 * idle_s < self.bounds.stall_s or 2 * idle_s < (bound_s := self.bound_s):
            self._patience.forget()
            return False
        phases = tuple(self._phases)
        if any(each.age_s < self.bounds.of(each.phase) for each in phases):
            return False
        if self.stalled:
            return True
        self._patience.measure()
        bound_s *= self._patience.times
        return any(lane.idle_s >= bound_s and not lane.moved for lane in self._lanes)

    def _poll_on(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            try:
                self.poll()
            except Exception:
                logger.exception("a poll of the watchdog failed")


class _Here(threading.local):
    watch: Watch | None = None


_here = _Here()


def phase(phase: Phase) -> AbstractContextManager[None]:
    """Announces what this thread does. On any other thread than one that is watched, nothing."""
    return nullcontext() if _here.watch is None else _here.watch.phase(phase)


class Calls:
    """The calls of one model. Its first call of each shape is a phase: a device may have kernels to
    choose, or to compile. A later call is bound by the duration of the last of its shape.
    """

    def __init__(self, first: Phase = "first call") -> None:
        self._first = first
        self._last_s: LRUCache[Hashable, float] = LRUCache(SHAPES)

    @contextmanager
    def of(self, *shape: Hashable) -> Iterator[None]:
        watch = _here.watch
        if watch is None:
            yield
            return
        last_s = self._last_s.get(shape)
        began = watch.clock()
        with watch.phase(self._first) if last_s is None else watch.expecting(last_s):
            yield
        self._last_s[shape] = watch.clock() - began
