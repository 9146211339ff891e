"""`deployments.shared`: several ingresses over one actor, all in this process."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deployments.shared import Shared
from glimpse.errors import Overloaded
from glimpse.http.places import Places, Timing
from glimpse.places import Claim, CounterLost, Kind
from tests.fakes import until

TOTAL = 64
TIMING = Timing(renew_s=0.05, retry_s=0.001, patience_s=10)


class Restarted:
    """The actor as ingresses see it. Where it dies it is started again."""

    def __init__(self) -> None:
        self.alive = 0
        self.counter = Shared(lease_s=60, recall_s=60, grace_s=60)
        self.died = asyncio.Event()

    def die(self) -> None:
        self.counter = Shared(lease_s=60, recall_s=60, grace_s=60)
        self.died.set()
        self.died = asyncio.Event()

    async def ingresses(self) -> int:
        return self.alive

    async def claim(self, claim: Claim) -> int:
        return await self._unless_it_dies(self.counter.claim(claim))

    async def recalled(self, kind: Kind, holder: str) -> None:
        await self._unless_it_dies(self.counter.recalled(kind, holder))

    def close(self) -> None: ...

    async def _unless_it_dies(self, call: object) -> int:
        calling = asyncio.ensure_future(call)  # type: ignore[call-overload]
        dying = asyncio.ensure_future(self.died.wait())
        await asyncio.wait({calling, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if not calling.done():
            calling.cancel()
            raise CounterLost("dead")
        return calling.result()  # type: ignore[no-any-return]


@asynccontextmanager
async def ingresses(shared: Restarted, count: int) -> AsyncIterator[list[Places]]:
    places = [Places(TOTAL, Kind.PICTURES, shared, TIMING) for _ in range(count)]
    shared.alive = count
    keeping = [asyncio.create_task(each.keep()) for each in places]
    yield places
    for task in keeping:
        task.cancel()
    await asyncio.wait(keeping)
    assert all(task.cancelled() for task in keeping)


async def ask(places: Places) -> str:
    try:
        await places.take()
    except Overloaded:
        return "refused"
    return "admitted"


@pytest.mark.parametrize("shares", [(40, 40), (70, 10), (1, 79), (80, 0), (30, 30, 20)])
async def test_all_places_are_filled_wherever_requests_arrive(shares: tuple[int, ...]) -> None:
    shared = Restarted()
    async with ingresses(shared, len(shares)) as places:
        asked = [
            ask(each) for each, share in zip(places, shares, strict=True) for _ in range(share)
        ]
        assert Counter(await asyncio.gather(*asked)) == {"admitted": TOTAL, "refused": 16}
        assert sum(each.used for each in places) == TOTAL


async def test_places_of_one_ingress_are_the_next_ones_when_they_are_released() -> None:
    shared = Restarted()
    async with ingresses(shared, 2) as (first, second):
        await asyncio.gather(*(ask(first) for _ in range(TOTAL)))
        for _ in range(10):
            first.release()
        done = await asyncio.gather(*(ask(second) for _ in range(12)))
        assert Counter(done) == {"admitted": 10, "refused": 2}


async def test_the_death_of_the_counter_fails_no_request_and_loses_no_place() -> None:
    shared = Restarted()
    async with ingresses(shared, 2) as places:
        await asyncio.gather(*(ask(each) for each in places for _ in range(20)))
        asked = [asyncio.create_task(ask(each)) for each in places for _ in range(12)]
        shared.die()
        assert Counter(await asyncio.gather(*asked)) == {"admitted": 24}
        asked = [asyncio.create_task(ask(each)) for each in places for _ in range(12)]
        await asyncio.sleep(0)
        shared.die()
        assert Counter(await asyncio.gather(*asked)) == {"refused": 24}
        for each in places:
            while each.used:
                each.release()
        assert Counter(await asyncio.gather(*(ask(places[0]) for _ in range(TOTAL + 1)))) == {
            "admitted": TOTAL,
            "refused": 1,
        }


async def test_pictures_and_sessions_are_counted_apart() -> None:
    counter = Shared()
    claim = Claim(Kind.PICTURES, "a", 1, 0, 4, 0, 0, 4, 4, 1)
    assert await counter.claim(claim) == 4
    sessions = Claim(Kind.SESSIONS, "b", 1, 0, 2, 0, 0, 2, 2, 1)
    assert await counter.claim(sessions) == 2


async def test_a_recall_wakes_who_listens_and_who_comes_to_listen() -> None:
    counter = Shared(recall_s=60, grace_s=0)
    listening = asyncio.create_task(counter.recalled(Kind.PICTURES, "b"))
    await counter.claim(Claim(Kind.PICTURES, "b", 1, 0, 4, 4, 4, 0, 0, 2))
    asking = asyncio.create_task(counter.claim(Claim(Kind.PICTURES, "a", 1, 0, 4, 0, 0, 1, 1, 2)))
    await listening
    await counter.recalled(Kind.PICTURES, "b")
    await counter.claim(Claim(Kind.PICTURES, "b", 2, 0, 4, 3, 0, 0, 0, 2))
    assert await asking == 1
    listening = asyncio.create_task(counter.recalled(Kind.PICTURES, "b"))
    done, _ = await asyncio.wait({listening}, timeout=0.05)
    assert not done
    listening.cancel()
    await until(listening.done)


async def test_a_trial_waits_for_that_of_another_ingress() -> None:
    shared, alive = Shared(), ("a", "b")
    assert await shared.begin_trial("a", "denoise", alive)
    asking = asyncio.create_task(shared.begin_trial("b", "denoise", alive))
    await asyncio.sleep(0)
    assert not asking.done()
    await shared.end_trial("b", "denoise", convicted=False)  # b has none
    assert not await shared.begin_trial("b", "denoise", alive)
    await shared.end_trial("a", "denoise", convicted=False)
    assert not await asking  # it is to ask again, and may
    assert await shared.begin_trial("b", "denoise", alive)


async def test_an_ingress_that_died_holds_up_no_trial() -> None:
    shared = Shared()
    assert await shared.begin_trial("a", "denoise", ("a", "b"))
    assert await shared.begin_trial("b", "denoise", ("b",))


async def test_an_ingress_may_begin_again_what_it_does_not_know_it_has_begun() -> None:
    shared, alive = Shared(), ("a", "b")
    assert await shared.begin_trial("a", "denoise", alive)
    assert await shared.begin_trial("a", "image_decode", alive)


async def test_a_loss_beside_a_trial_or_before_a_conviction_is_excused() -> None:
    shared, alive = Shared(), ("a", "b")
    assert not await shared.excuses("denoise", 1e6, alive)
    await shared.begin_trial("a", "denoise", alive)
    assert await shared.excuses("denoise", 0, alive)
    assert not await shared.excuses("image_decode", 0, alive)
    await shared.end_trial("a", "denoise", convicted=True)
    assert await shared.excuses("denoise", 60, alive)
    assert not await shared.excuses("denoise", -1, alive)  # it began later
    assert not await shared.excuses("image_decode", 60, alive)


async def test_a_loss_beside_a_trial_that_was_passed_counts_after_it() -> None:
    shared, alive = Shared(), ("a", "b")
    await shared.begin_trial("a", "denoise", alive)
    await shared.end_trial("a", "denoise", convicted=False)
    assert not await shared.excuses("denoise", 60, alive)


async def test_the_trial_of_an_ingress_that_died_excuses_nobody() -> None:
    shared = Shared()
    await shared.begin_trial("a", "denoise", ("a", "b", "c"))
    assert not await shared.excuses("denoise", 0, ("b", "c"))
