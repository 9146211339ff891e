"""`glimpse.http.places`: nobody is asked without need, and no failure of the counter loses a place
or a request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from glimpse.errors import Overloaded
from glimpse.http.places import Places, Timing
from glimpse.places import Claim, CounterLost, Kind
from tests.fakes import until

TOTAL = 16
FEW = TOTAL // 8
# So slow that nothing but a wake-up can be the reason for a claim.
TIMING = Timing(renew_s=60, retry_s=0.001, patience_s=60)


class FakeCounter:
    """Grants what is free, as long as a test lets it."""

    def __init__(self) -> None:
        self.alive = 2
        self.free = TOTAL
        self.claims: list[Claim] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.lost = False
        self.recall = asyncio.Event()
        self.listening = 0
        self.closed = 0

    async def ingresses(self) -> int:
        return self.alive

    async def claim(self, claim: Claim) -> int:
        self.claims.append(claim)
        await self.answering.wait()
        if self.lost:
            raise CounterLost("dead")
        granted = min(self.free, claim.wanted)
        self.free -= granted
        return granted

    async def recalled(self, kind: Kind, holder: str) -> None:
        self.listening += 1
        try:
            await self.recall.wait()
        finally:
            self.listening -= 1
        self.recall.clear()
        if self.lost:
            raise CounterLost("dead")

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def counter() -> FakeCounter:
    return FakeCounter()


@asynccontextmanager
async def kept(counter: FakeCounter, timing: Timing = TIMING) -> AsyncIterator[Places]:
    places = Places(TOTAL, Kind.PICTURES, counter, timing)
    keeping = asyncio.create_task(places.keep())
    await until(lambda: bool(counter.listening) or counter.alive == 1 or counter.lost)
    yield places
    keeping.cancel()
    await asyncio.wait({keeping})
    assert keeping.cancelled()


async def taken(places: Places, count: int) -> None:
    for _ in range(count):
        await places.take()


async def refused(places: Places, count: int = 1) -> None:
    with pytest.raises(Overloaded):
        await places.take(count)


async def test_alone_it_holds_all_and_asks_nobody(counter: FakeCounter) -> None:
    counter.alive = 1
    async with kept(counter) as places:
        await taken(places, TOTAL)
        await refused(places)
        places.release()
        await places.take()
    assert counter.claims == []


async def test_what_fits_into_the_block_is_admitted_without_asking(counter: FakeCounter) -> None:
    async with kept(counter) as places:
        assert [claim.wanted for claim in counter.claims] == [FEW]
        await taken(places, FEW)
        assert len(counter.claims) == 1
        await places.take()
        assert counter.claims[-1].needed == 1 and counter.claims[-1].wanted == 1 + FEW
        await taken(places, FEW)
        assert len(counter.claims) == 2


async def test_where_the_counter_has_no_more_the_rest_is_refused(counter: FakeCounter) -> None:
    counter.free = 5
    async with kept(counter) as places:
        asked = await asyncio.gather(*(places.take() for _ in range(8)), return_exceptions=True)
        assert [type(each) for each in asked] == [type(None)] * 5 + [Overloaded] * 3
        places.release()
        await places.take()
        await refused(places, TOTAL + 1)


async def test_requests_are_admitted_in_the_order_of_arrival(counter: FakeCounter) -> None:
    admitted: list[int] = []

    async def ask(count: int) -> None:
        await places.take(count)
        admitted.append(count)

    async with kept(counter) as places:
        counter.answering.clear()
        asking = [asyncio.create_task(ask(count)) for count in (4, 1, 2)]
        await until(lambda: len(counter.claims) == 2)
        late = asyncio.create_task(ask(3))
        await asyncio.sleep(0)
        assert admitted == []  # there are places, but not for the first
        counter.answering.set()
        await asyncio.gather(*asking, late)
    assert admitted == [4, 1, 2, 3]


async def test_who_leaves_the_queue_lets_the_next_one_in(counter: FakeCounter) -> None:
    async with kept(counter) as places:
        counter.answering.clear()
        large = asyncio.create_task(places.take(3))
        await asyncio.sleep(0)
        small = asyncio.create_task(places.take())
        await until(lambda: len(counter.claims) == 2)
        assert not small.done()
        large.cancel()
        await small


async def test_spare_places_go_back_when_they_are_recalled(counter: FakeCounter) -> None:
    async with kept(counter) as places:
        await places.take()
        counter.recall.set()
        await until(lambda: counter.claims[-1].held == 1)
        assert counter.claims[-1].spare == 0 and counter.claims[-1].wanted == 0
        await until(lambda: counter.listening == 1)


async def test_spare_places_go_back_after_a_while(counter: FakeCounter) -> None:
    async with kept(counter, Timing(renew_s=0.001)) as places:
        await taken(places, 10)
        for _ in range(9):
            places.release()
        await until(lambda: counter.claims[-1].held == 1 + FEW)


async def test_who_was_alone_gives_up_what_it_does_not_use(counter: FakeCounter) -> None:
    counter.alive = 1
    async with kept(counter, Timing(renew_s=0.001)) as places:
        await taken(places, 10)
        counter.alive = 2
        await until(lambda: bool(counter.claims))
        assert counter.claims[0].held == 10 + FEW
        counter.alive = 1
        await until(lambda: counter.closed == 2)  # before it knew, and now
        await taken(places, TOTAL - 10)
        await refused(places)


async def test_who_is_left_alone_admits_those_that_wait(counter: FakeCounter) -> None:
    async with kept(counter, Timing(renew_s=0.001, retry_s=0.001)) as places:
        counter.lost = True
        asking = [asyncio.create_task(places.take()) for _ in range(TOTAL + 1)]
        await until(lambda: len(counter.claims) > 5)
        counter.alive = 1
        done = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in done] == [type(None)] * TOTAL + [Overloaded]


async def test_while_the_counter_is_away_the_own_block_is_there(counter: FakeCounter) -> None:
    async with kept(counter) as places:
        counter.lost = True
        counter.recall.set()  # which ends in an error
        await until(lambda: len(counter.claims) > 3)
        await taken(places, FEW)
        asking = asyncio.create_task(places.take())
        await until(lambda: counter.claims[-1].needed == 1)
        places.release()
        await asking  # with what was given back
        more = asyncio.create_task(places.take())
        await until(lambda: counter.claims[-1].needed == 1)
        counter.lost = False
        await more
        assert places.used == FEW + 1


@pytest.mark.parametrize("how", ["hangs", "dies"])
async def test_patience_with_a_counter_has_an_end(counter: FakeCounter, how: str) -> None:
    async with kept(counter, Timing(renew_s=60, retry_s=0.001, patience_s=0.05)) as places:
        await taken(places, FEW)
        counter.lost = how == "dies"
        if how == "hangs":
            counter.answering.clear()
        await refused(places)
        places.release()
        await places.take()
        assert places.used == FEW


async def test_a_new_ingress_without_a_counter_takes_its_share(counter: FakeCounter) -> None:
    counter.lost, counter.alive = True, 4
    async with kept(counter, Timing(retry_s=0.001, patience_s=0.05)) as places:
        await until(lambda: any(claim.held == TOTAL // 4 for claim in counter.claims))
        await taken(places, TOTAL // 4)
        await refused(places)


@pytest.mark.parametrize("turns", range(6))
async def test_a_request_that_is_cancelled_keeps_no_place(counter: FakeCounter, turns: int) -> None:
    """At whichever moment between its asking and its answer."""
    async with kept(counter) as places:
        await taken(places, FEW)
        counter.answering.clear()
        asking = asyncio.create_task(places.take(3))
        behind = asyncio.create_task(places.take())
        await until(lambda: len(counter.claims) == 2)
        counter.answering.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        await behind
        assert places.used == FEW + 1 + (0 if asking.cancelled() else 3)
        for _ in range(places.used):
            places.release()
        held = TOTAL - counter.free
        await taken(places, held)  # all that was granted is there
        assert places.used == held
