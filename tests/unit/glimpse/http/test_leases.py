"""`glimpse.http.leases`: whatever happens, what is taken is given back, renewed, or lapses."""

import asyncio
from collections.abc import Sequence

import pytest

from glimpse.errors import AccessUnavailable, RateLimited
from glimpse.http.leases import Leases
from glimpse.key_limits import Kind, Lease
from glimpse.keys import Key, Limits
from tests.fakes import until

KEY = Key("web", "0" * 64, Limits(100, 2, 2, 24))


class Counting:
    """Limits that do as a test tells them, and keep what they were told."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.renewals: list[set[str]] = []
        self.refusal: RateLimited | None = None
        self.unreachable = False
        self.silent = False

    async def enter(self, lease: Lease, limits: Limits) -> RateLimited | None:
        await self._reached()
        if self.refusal is None:
            self.open.add(lease.id)
        return self.refusal

    async def settle(self, held: Sequence[Lease], released: Sequence[Lease]) -> None:
        await self._reached()
        self.open |= {lease.id for lease in held}
        self.open -= {lease.id for lease in released}
        self.renewals.append({lease.id for lease in held})

    async def _reached(self) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if self.unreachable:
            raise AccessUnavailable("Not there.")


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def leases(counting: Counting) -> Leases:
    return Leases(counting, renew_s=0.01, patience_s=0.05)


async def test_a_lease_is_renewed_until_it_is_released(counting: Counting, leases: Leases) -> None:
    lease = await leases.take(KEY, Kind.SESSION)
    await until(lambda: len(counting.renewals) >= 3)
    assert all(renewed == {lease.id} for renewed in counting.renewals)
    leases.release(lease)
    await until(lambda: counting.open == set())
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})  # nothing is left to do


async def test_leases_that_keep_coming_do_not_put_off_renewal(
    counting: Counting, leases: Leases
) -> None:
    first = await leases.take(KEY, Kind.REQUEST)
    while not counting.renewals:
        await leases.take(KEY, Kind.REQUEST)
        await asyncio.sleep(0.001)
    assert first.id in counting.renewals[0]


async def test_a_refusal_is_raised_and_holds_nothing(counting: Counting, leases: Leases) -> None:
    counting.refusal = RateLimited("Later.", 7)
    with pytest.raises(RateLimited) as caught:
        await leases.take(KEY, Kind.REQUEST)
    assert caught.value.retry_after_s == 7
    assert counting.open == set() and counting.renewals == []


async def test_where_nobody_counts_nobody_comes_in(counting: Counting, leases: Leases) -> None:
    counting.unreachable = True
    with pytest.raises(AccessUnavailable):
        await leases.take(KEY, Kind.REQUEST)
    counting.unreachable, counting.silent = False, True
    with pytest.raises(AccessUnavailable):
        await leases.take(KEY, Kind.REQUEST)


async def test_what_could_not_be_given_back_is_given_back_later(
    counting: Counting, leases: Leases
) -> None:
    lease = await leases.take(KEY, Kind.REQUEST)
    counting.unreachable = True
    leases.release(lease)
    await asyncio.sleep(0.01)
    assert counting.open == {lease.id}
    counting.unreachable = False
    await until(lambda: counting.open == set())


async def test_counting_that_began_anew_is_told_what_is_open(
    counting: Counting, leases: Leases
) -> None:
    lease = await leases.take(KEY, Kind.SESSION)
    counting.open.clear()
    await until(lambda: counting.open == {lease.id})


async def test_who_leaves_while_asking_leaves_no_lease(counting: Counting, leases: Leases) -> None:
    """It is taken, and the answer never arrives."""
    taken: asyncio.Event = asyncio.Event()
    enter = counting.enter

    async def never_answers(lease: Lease, limits: Limits) -> RateLimited | None:
        await enter(lease, limits)
        taken.set()
        await asyncio.Event().wait()
        return None

    counting.enter = never_answers  # type: ignore[method-assign]
    asking = asyncio.create_task(leases.take(KEY, Kind.REQUEST))
    await taken.wait()
    assert len(counting.open) == 1
    asking.cancel()
    await until(lambda: counting.open == set())
