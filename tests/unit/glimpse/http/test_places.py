"""`glimpse.http.places`: nobody is asked without need, no failure of the counter loses a place or a
request, and where places run out owners share them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from glimpse.errors import Overloaded
from glimpse.fair_share import OWNER_WAITING, judged
from glimpse.http.places import Places, Timing
from glimpse.places import Answer, Claim, CounterLost, Kind
from tests.fakes import until

TOTAL = 16
FEW = TOTAL // 8
BLOCK = 1 + FEW  # after the first request
# So slow that nothing but a wake-up can be the reason for a claim.
TIMING = Timing(renew_s=60, retry_s=0.001, patience_s=60)


class FakeCounter:
    """Shares out the places that an owner, `many`, has not taken elsewhere, as long as a test lets
    it."""

    def __init__(self) -> None:
        self.alive = 2
        self.others = 0
        self.claims: list[Claim] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.lost = False
        self.call = asyncio.Event()
        self.listening = 0
        self.closed = 0

    async def ingresses(self) -> int:
        return self.alive

    async def claim(self, claim: Claim) -> Answer:
        self.claims.append(claim)
        await self.answering.wait()
        if self.lost:
            raise CounterLost("dead")
        free = TOTAL - self.others - claim.held
        used = Counter(claim.used) + Counter(many=self.others)
        verdict = judged(claim.asked, free=free + claim.spare, total=TOTAL, used=used)
        granted = max(0, sum(each.count for each in verdict.admitted) - claim.spare)
        admitted, refused = (
            frozenset(each.id for each in some) for some in (verdict.admitted, verdict.refused)
        )
        short = len(admitted | refused) < len(claim.asked)
        few = min(claim.few, free - granted) if admitted and not short else 0
        return Answer(granted + few, admitted, refused, short)

    async def called(self, kind: Kind, holder: str) -> None:
        self.listening += 1
        try:
            await self.call.wait()
        finally:
            self.listening -= 1
        self.call.clear()
        if self.lost:
            raise CounterLost("dead")

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def counter() -> FakeCounter:
    return FakeCounter()


@asynccontextmanager
async def kept(
    counter: FakeCounter, timing: Timing = TIMING, wait_s: float = 60
) -> AsyncIterator[Places]:
    places = Places(TOTAL, Kind.PICTURES, counter, timing, wait_s=wait_s)
    keeping = asyncio.create_task(places.keep())
    await until(lambda: bool(counter.listening) or counter.alive == 1 or counter.lost)
    yield places
    keeping.cancel()
    await asyncio.wait({keeping})
    assert keeping.cancelled()


def alone(total: int = TOTAL, wait_s: float = 60) -> Places:
    return Places(total, Kind.PICTURES, wait_s=wait_s)


async def taken(places: Places, count: int, owner: str = "a") -> None:
    for _ in range(count):
        await places.take(owner)


async def refused(places: Places, owner: str = "a", count: int = 1) -> None:
    with pytest.raises(Overloaded):
        await places.take(owner, count)


def asking(places: Places, *owners: str) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(places.take(owner)) for owner in owners]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def outcomes(tasks: list[asyncio.Task[None]]) -> list[type]:
    return [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]


async def test_alone_it_holds_all_and_asks_nobody(counter: FakeCounter) -> None:
    counter.alive = 1
    async with kept(counter) as places:
        await taken(places, TOTAL)
        await refused(places)
        places.release("a")
        await places.take("a")
    assert counter.claims == []


async def test_what_fits_into_the_block_is_admitted_without_asking(counter: FakeCounter) -> None:
    async with kept(counter) as places:
        await places.take("a")
        assert len(counter.claims) == 2 and len(counter.claims[-1].asked) == 1
        await taken(places, FEW)
        assert len(counter.claims) == 2
        await places.take("b")
        assert counter.claims[-1].held == BLOCK and counter.claims[-1].used == {"a": BLOCK}
        assert [each.owner for each in counter.claims[-1].asked] == ["b"]
        await taken(places, FEW)
        assert len(counter.claims) == 3


async def test_where_the_counter_has_no_more_the_rest_is_refused(counter: FakeCounter) -> None:
    counter.others = 5
    async with kept(counter) as places:
        done = await outcomes(asking(places, *["a"] * 14))
        assert done == [type(None)] * 11 + [Overloaded] * 3
        places.release("a")
        await places.take("a")
        await refused(places, count=TOTAL + 1)


async def test_requests_are_admitted_in_the_order_of_arrival(counter: FakeCounter) -> None:
    admitted: list[int] = []

    async def ask(count: int) -> None:
        await places.take("a", count)
        admitted.append(count)

    async with kept(counter) as places:
        await places.take("a")  # and FEW more are held
        counter.answering.clear()
        first = [asyncio.create_task(ask(count)) for count in (4, 1, 2)]
        await until(lambda: len(counter.claims) == 3)
        late = asyncio.create_task(ask(3))
        await asyncio.sleep(0)
        assert admitted == []  # there are places, but not for the first
        counter.answering.set()
        await asyncio.gather(*first, late)
    assert admitted == [4, 1, 2, 3]


async def test_who_leaves_the_queue_lets_the_next_one_in(counter: FakeCounter) -> None:
    async with kept(counter) as places:
        await places.take("a")
        counter.answering.clear()
        large = asyncio.create_task(places.take("a", 3))
        await asyncio.sleep(0)
        small = asyncio.create_task(places.take("a"))
        await until(lambda: len(counter.claims) == 3)
        assert not small.done()
        large.cancel()
        await small


async def test_spare_places_go_back_when_the_counter_calls(counter: FakeCounter) -> None:
    async with kept(counter) as places:
        await places.take("a")
        counter.call.set()
        await until(lambda: counter.claims[-1].held == 1)
        assert counter.claims[-1].spare == 0
        await until(lambda: counter.listening == 1)


async def test_spare_places_go_back_after_a_while(counter: FakeCounter) -> None:
    async with kept(counter, Timing(renew_s=0.001)) as places:
        await taken(places, 10)
        for _ in range(9):
            places.release("a")
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
        tasks = asking(places, *["a"] * (TOTAL + 1))
        await until(lambda: len(counter.claims) > 5)
        counter.alive = 1
        assert await outcomes(tasks) == [type(None)] * TOTAL + [Overloaded]


async def test_while_the_counter_is_away_the_own_block_is_there(counter: FakeCounter) -> None:
    async with kept(counter) as places:
        await places.take("a")
        counter.lost = True
        counter.claims.clear()
        await taken(places, FEW)
        [more] = asking(places, "a")
        await until(lambda: len(counter.claims) > 3)  # and it is tried again
        places.release("a")
        await more  # with what was given back
        [more] = asking(places, "a")
        await until(lambda: len(counter.claims[-1].asked) == 1)
        counter.lost = False
        await more
        assert places.used == BLOCK + 1


@pytest.mark.parametrize("how", ["hangs", "dies"])
async def test_patience_with_a_counter_has_an_end(counter: FakeCounter, how: str) -> None:
    async with kept(counter, Timing(renew_s=60, retry_s=0.001, patience_s=0.05)) as places:
        await taken(places, BLOCK)
        counter.lost = how == "dies"
        if how == "hangs":
            counter.answering.clear()
        await refused(places)
        places.release("a")
        await places.take("a")
        assert places.used == BLOCK


async def test_a_new_ingress_without_a_counter_takes_its_share(counter: FakeCounter) -> None:
    counter.lost, counter.alive = True, 4
    async with kept(counter, Timing(retry_s=0.001, patience_s=0.05)) as places:
        await until(lambda: any(claim.held == TOTAL // 4 for claim in counter.claims))
        await taken(places, TOTAL // 4)
        await refused(places)


@pytest.mark.parametrize("turns", range(8))
async def test_a_request_that_is_cancelled_keeps_no_place(counter: FakeCounter, turns: int) -> None:
    """At whichever moment between its asking and its answer."""
    async with kept(counter) as places:
        await taken(places, BLOCK)
        counter.answering.clear()
        leaving = asyncio.create_task(places.take("a", 3))
        [behind] = asking(places, "a")
        await until(lambda: len(counter.claims) == 3)
        counter.answering.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        await behind
        assert places.used == BLOCK + 1 + (0 if leaving.cancelled() else 3)
        places.release("a", places.used)
        await until(lambda: counter.listening == 1)
        await taken(places, TOTAL)
        assert places.used == TOTAL and dict(places._owners) == {"a": TOTAL}


async def test_the_next_place_is_for_an_owner_that_has_fewer_than_its_share() -> None:
    places = alone()
    await taken(places, TOTAL, "many")
    [one] = asking(places, "one")
    await settled()
    assert not one.done()
    await refused(places, "many")
    places.release("many")
    await refused(places, "many")  # it is kept for who waits
    await one
    assert dict(places._owners) == {"many": TOTAL - 1, "one": 1}


async def test_a_request_waits_its_time_and_is_refused() -> None:
    places = alone(wait_s=0.01)
    await taken(places, TOTAL, "many")
    await refused(places, "one")
    places.release("many")
    await taken(places, 1, "many")  # nobody waits any more
    assert await outcomes(asking(alone(0), "one")) == [Overloaded]
    places = alone(wait_s=0)
    await taken(places, TOTAL, "many")
    await refused(places, "one")


async def test_four_of_an_owner_wait_and_a_fifth_does_not() -> None:
    places = alone()
    await taken(places, TOTAL, "many")
    tasks = asking(places, *["one"] * OWNER_WAITING)
    await settled()
    await refused(places, "one")
    assert not any(task.done() for task in tasks)
    places.release("many", OWNER_WAITING)
    assert await outcomes(tasks) == [type(None)] * OWNER_WAITING


async def test_so_many_wait_in_all() -> None:
    places = alone()
    await taken(places, TOTAL, "many")
    tasks = asking(places, *(str(n) for n in range(TOTAL)))
    await settled()
    await refused(places, "one")
    tasks[0].cancel()
    await asyncio.wait({tasks[0]})
    [one] = asking(places, "one")
    await settled()
    assert not one.done()
    places.release("many", TOTAL)
    assert await outcomes([*tasks[1:], one]) == [type(None)] * TOTAL


async def test_who_has_the_fewest_goes_first_whoever_came_first() -> None:
    places = alone()
    await taken(places, TOTAL - 3, "many")
    await taken(places, 3, "some")
    tasks = asking(places, "some", "one", "another")
    await settled()
    for next_one, left in ((tasks[1], 2), (tasks[2], 1), (tasks[0], 0)):
        places.release("many")
        await next_one
        assert sum(not task.done() for task in tasks) == left


async def test_several_places_are_waited_for_together() -> None:
    places = alone()
    await taken(places, TOTAL, "many")
    four = asyncio.create_task(places.take("one", 4))
    await settled()
    [other] = asking(places, "other")
    for _ in range(3):
        places.release("many")
        await settled()
        assert not four.done() and not other.done()
    places.release("many")
    await four
    assert not other.done()
    places.release("one", 4)
    await other


@pytest.mark.parametrize("turns", range(4))
async def test_who_leaves_while_it_waits_leaves_the_queue(turns: int) -> None:
    """At whichever moment, before or after a place is free."""
    places = alone()
    await taken(places, TOTAL, "many")
    leaving, other = asking(places, "one", "other")
    await settled()
    if turns:
        places.release("many")
    for _ in range(turns - 1):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    if leaving.cancelled() and not turns:
        places.release("many")
    if not leaving.cancelled():
        places.release("one")
    await other
    assert dict(places._owners) == {"many": TOTAL - 1, "other": 1}


async def test_where_places_are_short_each_goes_by_the_counter(counter: FakeCounter) -> None:
    counter.others = TOTAL - BLOCK
    async with kept(counter) as places:
        await taken(places, BLOCK, "many")
        [one] = asking(places, "one")
        await settled()
        assert not one.done() and len(counter.claims) == 3
        # The counter has somebody else for the place that is given back here.
        counter.others += 1
        places.release("many")
        await settled()
        assert counter.claims[-1].held == BLOCK - 1
        assert not one.done()
        await refused(places, "many")
        counter.others -= 1
        counter.call.set()
        await one
        assert places.used == BLOCK


async def test_a_counter_that_lets_wait_is_told_who_has_left(counter: FakeCounter) -> None:
    counter.others = TOTAL - BLOCK
    async with kept(counter) as places:
        await taken(places, BLOCK, "many")
        one, other = asking(places, "one", "other")
        await until(lambda: len(counter.claims[-1].asked) == 2)
        one.cancel()
        await until(lambda: len(counter.claims[-1].asked) == 1)
        assert counter.claims[-1].asked[0].waits
        counter.others -= 1
        counter.call.set()
        await other


async def test_who_waits_when_the_counter_dies_gets_what_is_given_back_here(
    counter: FakeCounter,
) -> None:
    counter.others = TOTAL - BLOCK
    async with kept(counter) as places:
        await taken(places, BLOCK, "many")
        [one] = asking(places, "one")
        await settled()
        counter.lost = True
        places.release("many")  # it goes to the counter, and is lost on its way
        await until(lambda: places._lost)
        assert not one.done()
        places.release("many")
        await one
        assert dict(places._owners) == {"many": BLOCK - 2, "one": 1}


async def test_a_request_waits_no_longer_where_a_counter_lets_it_wait(counter: FakeCounter) -> None:
    counter.others = TOTAL - BLOCK
    async with kept(counter, wait_s=0.01) as places:
        await taken(places, BLOCK, "many")
        await refused(places, "one")
        await until(lambda: counter.claims[-1].asked == ())
