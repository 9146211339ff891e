"""Which jobs make their next step together. Pure: no torch, no clock, no asyncio."""

import math
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import zip_longest
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

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
    `alone` shares none, and goes before all others, until it is released. Owners share the ticks of
    a class evenly, however many jobs each of them has.
    """

    key: Key
    rows: int
    group: Hashable
    priority: Priority = Priority.INTERACTIVE
    deadline: float = math.inf
    alone: bool = False
    owner: Hashable = None


@dataclass(frozen=True, slots=True)
class Plan(Generic[Key]):
    """The jobs of one tick, by key; they share a group. `led_by` is the class whose turn it is; a
    tick for one job `alone` is no class's turn. `owners` have a job in the tick, each with the
    class of that job."""

    keys: tuple[Key, ...]
    rows: int
    group: Hashable
    led_by: Priority
    owners: frozenset[tuple[Priority, Hashable]] = frozenset()
    alone: bool = False


Turn: TypeAlias = tuple[int, bool]
"""The tick of the last step, False; before the first step the last tick before the arrival, True,
so that a newcomer is behind those who were stepped in that tick."""


@dataclass(slots=True, eq=False)
class _Share(Generic[Key]):
    """What an owner has in a class: its jobs, in the order of arrival, and its last turn, by itself
    and with each of its groups."""

    turn: Turn
    jobs: dict[Key, Entry[Key]] = field(default_factory=dict)
    groups: dict[Hashable, Turn] = field(default_factory=dict)

    def line(self, group: Hashable) -> list[Entry[Key]]:
        """The jobs of a group, by deadline, then by age."""
        jobs = [job for job in self.jobs.values() if job.group == group]
        jobs.sort(key=_deadline)  # a stable sort
        return jobs


class Batcher(Generic[Key]):
    """Orders jobs by class, then owner, then deadline and age, and packs them into ticks of
    `row_budget`.

    A class leads every tick while it has jobs, but for one in eight, which is for those below it,
    so that each waits a bounded number of ticks: 8 for the next class, 64 for the one after. In
    the class that leads, the owner leads whose last step is longest ago, with the group of its own
    that it stepped longest ago. The first rows are for one job of each owner of that group, the
    next ones for a second job of each, and so on. Rows that the leading class leaves free are for
    other jobs of the same group, in the same way. So with k owners in a class each one is stepped
    at least once in k ticks that the class leads. `plan` changes nothing: a tick that was not run
    may be planned again.

    Before all that go jobs that are alone, one by one, the oldest first.
    """

    def __init__(self, row_budget: int) -> None:
        self.row_budget = row_budget
        self._jobs: dict[Key, Entry[Key]] = {}  # in the order of arrival
        self._led = dict.fromkeys(Priority, 0)  # ticks in a row, while those below waited
        self._ticks = 0
        self._alone: dict[Key, None] = {}  # in the order of arrival
        # By owner, only of those that have jobs.
        self._shares: dict[Priority, dict[Hashable, _Share[Key]]] = {each: {} for each in Priority}

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
        if entry.alone:
            self._alone[entry.key] = None
        arrival = self._ticks, True
        share = self._shares[entry.priority].setdefault(entry.owner, _Share(arrival))
        share.jobs[entry.key] = entry
        share.groups.setdefault(entry.group, arrival)

    def cancel(self, key: Key) -> bool:
        """Takes a job out, in mid-tick too; it is in no later plan. False where it has ended."""
        job = self._jobs.pop(key, None)
        if job is None:
            return False
        self._alone.pop(key, None)
        shares = self._shares[job.priority]
        share = shares[job.owner]
        del share.jobs[key]
        if not share.jobs:
            del shares[job.owner]
        elif all(each.group != job.group for each in share.jobs.values()):
            del share.groups[job.group]
        return True

    def release(self, key: Key) -> None:
        """From now on a job shares ticks, as any other of its age; in mid-tick too."""
        if key in self._alone:
            del self._alone[key]
            job = self._jobs[key] = replace(self._jobs[key], alone=False)
            self._shares[job.priority][job.owner].jobs[key] = job

    def plan(self) -> Plan[Key] | None:
        """The next tick, or None where there are no jobs."""
        if not self._jobs:
            return None
        for key in self._alone:
            job = self._jobs[key]
            return Plan((key,), job.rows, job.group, job.priority, alone=True)
        led_by = self._leading_class()
        group = self._leading_group(led_by)
        taken, rows = [], 0
        for job in self._order(led_by, group):
            if rows + job.rows <= self._row_budget:
                taken.append(job)
                rows += job.rows
            if rows == self._row_budget:
                break
        keys = tuple(job.key for job in taken)
        owners = frozenset((job.priority, job.owner) for job in taken)
        return Plan(keys, rows, group, led_by, owners)

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
        return {key: end for key, end in ends.items() if self.cancel(key)}

    def _leading_class(self) -> Priority:
        here = [priority for priority in Priority if self._shares[priority]]
        for priority in here[:-1]:
            if self._led[priority] < RESERVED_EVERY - 1:
                return priority
        return here[-1]

    def _leading_group(self, led_by: Priority) -> Hashable:
        """That of the owner whose last step in the class is longest ago; where the owner has
        several, the one that it stepped longest ago."""
        shares = self._shares[led_by].values()
        oldest = min(share.turn for share in shares)
        jobs = (
            (share.groups[job.group], job.deadline, job)
            for share in shares
            if share.turn == oldest
            for job in share.jobs.values()
        )
        return min(jobs, key=itemgetter(0, 1))[2].group

    def _order(self, led_by: Priority, group: Hashable) -> Iterator[Entry[Key]]:
        """The jobs of a group: the leading class first; in a class one job of each owner, then the
        second ones, and so on."""
        for priority in (led_by, *(each for each in Priority if each != led_by)):
            lines = []
            for share in self._shares[priority].values():
                if line := share.line(group):
                    lines.append((share.turn, line[0].deadline, line))
            lines.sort(key=itemgetter(0, 1))
            for rank in zip_longest(*(line for *_, line in lines)):
                yield from (job for job in rank if job is not None)

    def _count_turns(self, plan: Plan[Key]) -> None:
        self._ticks += 1
        for priority, owner in plan.owners:  # of jobs that were cancelled in mid-tick, too
            share = self._shares[priority].get(owner)
            if share is not None:
                share.turn = self._ticks, False
                if plan.group in share.groups:
                    share.groups[plan.group] = share.turn
        for priority in Priority:
            if priority < plan.led_by:
                self._led[priority] = 0
        waited = any(self._shares[each] for each in Priority if each > plan.led_by)
        self._led[plan.led_by] = self._led[plan.led_by] + 1 if waited else 0


def _deadline(job: Entry[Key]) -> float:
    return job.deadline
