"""`deployments.shared`: several ingresses over one actor, all in this process."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from deployments.shared import Shared
from glimpse.errors import Overloaded
from glimpse.fair_share import Asked
from glimpse.http.places import Places, Timing
from glimpse.places import Answer, Claim, CounterLost, Kind
from tests.fakes import until

TOTAL = 64
TIMING = Timing(renew_s=0.05, retry_s=0.001, patience_s=10)
WAIT_S = 10.0


T = TypeVar("T")


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

    async def claim(self, claim: Claim) -> Answer:
        return await self._unless_it_dies(self.counter.claim(claim))

    async def called(self, kind: Kind, holder: str) -> None:
        await self._unless_it_dies(self.counter.called(kind, holder))

    def close(self) -> None: ...

    async def _unless_it_dies(self, call: Coroutine[Any, Any, T]) -> T:
        calling = asyncio.ensure_future(call)
        dying = asyncio.ensure_future(self.died.wait())
        await asyncio.wait({calling, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if not calling.done():
            calling.cancel()
            raise CounterLost("dead")
        return calling.result()


def claim(
    holder: str,
    number: int = 1,
    *,
    kind: Kind = Kind.PICTURES,
    total: int = 4,
    held: int = 0,
    used: dict[str, int] | None = None,
    asked: int = 0,
    of: str = "a",
    few: int = 0,
    ingresses: int = 1,
) -> Claim:
    """With so many requests of an owner."""
    now = time.monotonic()
    requests = tuple(Asked(holder, n, of, 1, now) for n in range(asked))
    return Claim(kind, holder, number, 0, now, total, held, used or {}, requests, few, ingresses)


@asynccontextmanager
async def ingresses(shared: Restarted, count: int) -> AsyncIterator[list[Places]]:
    places = [Places(TOTAL, Kind.PICTURES, shared, TIMING, wait_s=WAIT_S) for _ in range(count)]
    shared.alive = count
    keeping = [asyncio.create_task(each.keep()) for each in places]
    yield places
    for task in keeping:
        task.cancel()
    await asyncio.wait(keeping)
    assert all(task.cancelled() for task in keeping)


async def ask(places: Places, owner: str = "a") -> str:
    try:
        await places.take(owner)
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
            first.release("a")
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
                each.release("a")
        assert Counter(await asyncio.gather(*(ask(places[0]) for _ in range(TOTAL + 1)))) == {
            "admitted": TOTAL,
            "refused": 1,
        }


async def test_one_owner_with_requests_always_ready_keeps_nobody_out() -> None:
    """It has every place of both ingresses and asks again for each that it gives back."""
    shared = Restarted()
    async with ingresses(shared, 2) as places:
        gathered = await asyncio.gather(*(ask(each, "many") for each in places for _ in range(32)))
        assert Counter(gathered) == {"admitted": TOTAL}
        refusals = 0

        async def greedy(at: Places) -> None:
            nonlocal refusals
            while True:
                await asyncio.sleep(0.001)  # a picture is ready
                at.release("many")
                while await ask(at, "many") == "refused":
                    refusals += 1
                    await asyncio.sleep(0)

        greedily = [asyncio.create_task(greedy(each)) for each in places for _ in range(32)]
        for at in places:
            async with asyncio.timeout(5):
                assert await ask(at, "one") == "admitted"
        assert refusals
        for task in greedily:
            task.cancel()
        await asyncio.wait(greedily)


async def test_what_is_given_back_at_one_ingress_goes_to_who_waits_at_the_other() -> None:
    shared = Restarted()
    async with ingresses(shared, 2) as (first, second):
        await asyncio.gather(*(ask(first, "many") for _ in range(TOTAL)))
        waiting = [asyncio.create_task(ask(second, "one")) for _ in range(3)]
        await until(lambda: all(each.asked.waits for each in second._queue.values()))
        assert await ask(first, "many") == await ask(second, "many") == "refused"
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        first.release("many", 2)
        assert await ask(first, "many") == "refused"
        assert await asyncio.gather(*waiting[1:]) == ["admitted"] * 2
        assert second.used == 2
        first.release("many")  # nobody waits any more
        assert await ask(first, "many") == "admitted"


async def test_who_waits_goes_on_waiting_when_the_counter_dies() -> None:
    shared = Restarted()
    async with ingresses(shared, 2) as (first, second):
        await asyncio.gather(*(ask(first, "many") for _ in range(TOTAL)))
        waiting = asyncio.create_task(ask(second, "one"))
        await until(lambda: any(each.asked.waits for each in second._queue.values()))
        shared.die()
        first.release("many")
        assert await waiting == "admitted"
        assert await ask(first, "many") == "refused"


async def test_what_one_that_died_had_waiting_is_in_nobodys_way() -> None:
    counter = Shared(lease_s=0.05, recall_s=0.01, grace_s=0)
    waits = await counter.claim(claim("dead", held=4, used={"x": 4}, asked=4, of="y"))
    assert waits.short and not waits.granted
    await asyncio.sleep(0.05)
    answer = await counter.claim(claim("b", asked=4))
    assert answer.granted == 4


async def test_pictures_and_sessions_are_counted_apart() -> None:
    counter = Shared()
    for kind, total in ((Kind.PICTURES, 4), (Kind.SESSIONS, 2)):
        answer = await counter.claim(claim("a", kind=kind, total=total, asked=1, few=8))
        assert (answer.granted, answer.admitted) == (total, frozenset({0}))


async def test_a_call_wakes_who_listens_and_who_comes_to_listen() -> None:
    counter = Shared(recall_s=60, grace_s=0)
    listening = asyncio.create_task(counter.called(Kind.PICTURES, "b"))
    await counter.claim(claim("b", held=4, ingresses=2))
    asking = asyncio.create_task(counter.claim(claim("a", asked=1, ingresses=2)))
    await listening
    await counter.called(Kind.PICTURES, "b")
    await counter.claim(claim("b", 2, held=3, used={"b": 3}, ingresses=2))
    assert (await asking).granted == 1
    listening = asyncio.create_task(counter.called(Kind.PICTURES, "b"))
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
