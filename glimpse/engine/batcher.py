"""Which jobs make their next step together. Pure: no torch, no clock, no asyncio."""

import math
from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Generic, TypeVar

from glimpse.ports import Priority

Key = TypeVar("Key", bound=Hashable)

MOST_ROWS = 2
"""Of one job: one row for the prompt, and with guidance one to steer away from."""
RESERVED_EVERY = 8
"""One tick in so many that a class could lead goes to the classes below it."""


class End(Enum):
    """How a job leaves the batcher; each does once."""

    DONE = auto()
    FAILED = auto()
    CANCELLED = auto()


@dataclass(frozen=True, slots=True)
class Entry(Generic[Key]):
    """What the batcher knows of a job.

    `rows` are its part of a batch, 1 or 2. Only jobs of one `group` (latent shape, adapter) can
    share a tick. `deadline` is on any clock, the same for all; infinity is none. A job that is
    `alone` shares none, and goes before all others, until it is released.
    """

    key: Key
    rows: int
    group: Hashable
    priority: Priority = Priority.INTERACTIVE
    deadline: float = math.inf
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Plan(Generic[Key]):
    """The jobs of one tick, by key; they share a group. `led_by` is the class whose turn it is; a
    tick for one job `alone` is no class's turn."""

    keys: tuple[Key, ...]
    rows: int
    group: Hashable
    led_by: Priority
    alone: bool = False


class Batcher(Generic[Key]):
    """Orders jobs by class, then deadline, then age, and packs them into ticks of `row_budget`.

    A class leads every tick while it has jobs, but for one in eight, which is for those below it,
    so that each waits a bounded number of ticks: 8 for the next class, 64 for the one after. In
    the class that leads, groups take turns. Rows that the leading class leaves free are for other
    jobs of the same group. `plan` changes nothing: a tick that was not run may be planned again.

    Before all that go jobs that are alone, one by one, the oldest first.
    """

    def __init__(self, row_budget: int) -> None:
        self.row_budget = row_budget
        self._jobs: dict[Key, Entry[Key]] = {}  # in the order of arrival
        self._led = dict.fromkeys(Priority, 0)  # ticks in a row, while those below waited
        self._ticks = 0
        # By class and group: the tick that it led last, True, or else came after, False.
        self._turns: dict[tuple[Priority, Hashable], tuple[int, bool]] = {}

    @property
    def row_budget(self) -> int:
        """The most rows of a tick."""
        return self._row_budget

    @row_budget.setter
    def row_budget(self, rows: int) -> None:
        if rows < MOST_ROWS:
            raise ValueError(f"a job may need {MOST_ROWS} rows; the budget must be at least that")
        self._row_budget = rows

    def __len__(self) -> int:
        return len(self._jobs)

    def admit(self, entry: Entry[Key]) -> None:
        """Takes a job in. Raises `ValueError` for a key that is here, or rows that cannot be."""
        if entry.key in self._jobs:
            raise ValueError(f"{entry.key!r} is here already")
        if not 1 <= entry.rows <= MOST_ROWS:
            raise ValueError(f"a job has 1 to {MOST_ROWS} rows, not {entry.rows}")
        self._jobs[entry.key] = entry
        self._turns.setdefault((entry.priority, entry.group), (self._ticks, False))

    def cancel(self, key: Key) -> bool:
        """Takes a job out, in mid-tick too; it is in no later plan. False where it has ended."""
        return self._jobs.pop(key, None) is not None

    def release(self, key: Key) -> None:
        """From now on a job shares ticks, as any other of its age; in mid-tick too."""
        job = self._jobs.get(key)
        if job is not None and job.alone:
            self._jobs[key] = replace(job, alone=False)

    def plan(self) -> Plan[Key] | None:
        """The next tick, or None where there are no jobs."""
        if not self._jobs:
            return None
        for job in self._jobs.values():
            if job.alone:
                return Plan((job.key,), job.rows, job.group, job.priority, alone=True)
        led_by = self._leading_class()
        group = self._leading_group(led_by)
        fellows = (job for job in self._jobs.values() if job.group == group)
        # A stable sort: equals stay in the order of arrival.
        order = sorted(fellows, key=lambda job: (job.priority != led_by, *_urgency(job)))
        keys, rows = [], 0
        for job in order:
            if rows + job.rows <= self._row_budget:
                keys.append(job.key)
                rows += job.rows
        return Plan(tuple(keys), rows, group, led_by)

    def commit(
        self, plan: Plan[Key], *, done: Collection[Key] = (), failed: Collection[Key] = ()
    ) -> dict[Key, End]:
        """The tick was run: `done` and `failed` of its jobs have ended, the others go on.

        Gives how jobs ended; those that were cancelled in mid-tick have ended before. Raises
        `ValueError` for a job that was not in the plan, or is both done and failed.
        """
        ends = {key: End.DONE for key in done} | {key: End.FAILED for key in failed}
        if len(ends) < len(done) + len(failed) or not ends.keys() <= set(plan.keys):
            raise ValueError("a tick ends jobs of its plan, each in one way")
        if not plan.alone:
            self._count_turns(plan)
        return {key: end for key, end in ends.items() if self._jobs.pop(key, None) is not None}

    def _leading_class(self) -> Priority:
        here = sorted({job.priority for job in self._jobs.values()})
        for priority in here[:-1]:
            if self._led[priority] < RESERVED_EVERY - 1:
                return priority
        return here[-1]

    def _leading_group(self, led_by: Priority) -> Hashable:
        """The group of the class whose last turn is longest ago."""
        jobs = [job for job in self._jobs.values() if job.priority == led_by]
        return min(jobs, key=lambda job: (self._turns[led_by, job.group], *_urgency(job))).group

    def _count_turns(self, plan: Plan[Key]) -> None:
        self._ticks += 1
        self._turns[plan.led_by, plan.group] = self._ticks, True
        here = {(job.priority, job.group) for job in self._jobs.values()}
        self._turns = {whose: turn for whose, turn in self._turns.items() if whose in here}
        for priority in Priority:
            if priority < plan.led_by:
                self._led[priority] = 0
        waited = any(job.priority > plan.led_by for job in self._jobs.values())
        self._led[plan.led_by] = self._led[plan.led_by] + 1 if waited else 0


def _urgency(job: Entry[Key]) -> tuple[Priority, float]:
    return job.priority, job.deadline
