"""`deployments.replicas`: a replica that stands still is found out, and its calls are given up."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from deployments import replicas as module
from deployments.replicas import Call, Replicas
from glimpse.errors import StageLost, StageStalled
from glimpse.watch import Patience
from tests.fakes import until


class Replica:
    """Its health check answers, raises `failure`, or is silent."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.silent = False
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1
        while self.silent:
            await asyncio.sleep(0.001)
        if self.failure is not None:
            raise self.failure


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.002)
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0.004)
    monkeypatch.setattr(module, "LOOK_FOR_REPLICA_EVERY_S", 0.001)


@pytest.fixture
def there() -> dict[str, Replica]:
    return {"a": Replica(), "b": Replica()}


@pytest.fixture
def seen(there: dict[str, Replica]) -> Iterator[Replicas]:
    made = Replicas("Denoiser", patience=Patience(lambda: 1.0))
    made.stall_s = 0.05
    made.update({name: replica.check for name, replica in there.items()})
    yield made


async def wait_on(seen: Replicas, replica: str, answer: Any = None) -> Any:
    with seen.call("denoise") as call:
        call.replica = replica
        return await call.answer(answer or asyncio.Event().wait())


async def test_calls_on_a_silent_replica_are_given_up_and_no_others(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    there["a"].silent = True
    stalls: list[str] = []
    seen.on_stall = lambda: stalls.append("a")
    on_b = asyncio.create_task(wait_on(seen, "b"))
    given_up = [asyncio.create_task(wait_on(seen, "a")) for _ in range(3)]
    async with asyncio.timeout(5):
        for each in given_up:
            with pytest.raises(StageStalled):
                await each
    assert not on_b.done()
    assert seen.trusted(["a", "b"], str) == ["b"]
    assert stalls == ["a"]  # one stall, however many calls
    on_b.cancel()


async def test_a_call_that_fails_its_check_is_given_up_at_once(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    seen.stall_s = 1000
    there["a"].failure = RuntimeError("the torch thread stands still")
    async with asyncio.timeout(5):
        with pytest.raises(StageStalled):
            await wait_on(seen, "a")


async def test_a_replica_that_answers_late_but_within_the_bound_has_not_stalled(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    seen.stall_s = 1000
    there["a"].silent = True
    waiting = asyncio.create_task(wait_on(seen, "a"))
    await asyncio.sleep(0.05)
    there["a"].silent = False
    await until(lambda: there["a"].checks > 3)
    assert not waiting.done()
    waiting.cancel()


async def test_a_suspect_that_is_well_again_is_trusted_again(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    there["a"].silent = True
    with pytest.raises(StageStalled):
        await wait_on(seen, "a")
    assert seen.trusted(["a", "b"], str) == ["b"]
    there["a"].silent = False
    await until(lambda: seen.trusted(["a", "b"], str) == ["a", "b"])
    await until(lambda: seen._watching is None)  # nothing is asked while nothing is open
    checks = there["a"].checks
    await asyncio.sleep(0.03)
    assert there["a"].checks == checks


async def test_a_replica_that_lost_a_call_gets_none_until_it_is_checked(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    """Serve may name it again before it knows."""
    there["a"].failure = ActorUnavailableError("gone", b"1" * 16)
    with pytest.raises(StageLost), seen.call("denoise") as call:
        call.replica = "a"
        raise StageLost("denoise")
    await asyncio.sleep(0.03)
    assert seen.trusted(["a", "b"], str) == ["b"]
    seen.update({"b": there["b"].check})  # the controller's word
    await until(lambda: seen._watching is None)
    assert seen.present


async def test_an_answer_from_before_a_stall_clears_nobody(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    """A check that found the replica well is looked at when it has just said that it hangs."""
    waiting = asyncio.create_task(wait_on(seen, "a"))
    await until(lambda: there["a"].checks > 0)
    for _ in range(20):
        there["a"].failure = None
        checks = there["a"].checks
        await until(lambda checks=checks: there["a"].checks > checks)  # type: ignore[misc]
        there["a"].failure = RuntimeError("hangs")
        with pytest.raises(StageStalled), seen.call("denoise") as call:
            call.replica = "a"
            raise StageStalled("denoise")
        for _ in range(5):
            assert seen.trusted(["a", "b"], str) == ["b"]
            await asyncio.sleep(0.001)
        there["a"].failure = None
        await until(lambda: seen.trusted(["a", "b"], str) == ["a", "b"])
        if waiting.done():
            waiting.exception()
            waiting = asyncio.create_task(wait_on(seen, "a"))
    waiting.cancel()


async def test_a_stall_counts_once_also_where_the_replica_says_so_itself(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    there["a"].failure = RuntimeError("hangs")
    stalls: list[str] = []
    seen.on_stall = lambda: stalls.append("a")
    for _ in range(3):
        with pytest.raises(StageStalled), seen.call("denoise") as call:
            call.replica = "a"
            raise StageStalled("denoise")
    await until(lambda: there["a"].checks > 3)
    assert stalls == ["a"]


async def test_what_another_stage_lost_is_not_put_down_to_the_replica(seen: Replicas) -> None:
    with pytest.raises(StageLost), seen.call("denoise") as call:
        call.replica = "a"
        raise StageLost("text_encode")
    assert seen.trusted(["a", "b"], str) == ["a", "b"]


async def test_one_that_drains_is_watched_for_the_calls_that_it_still_has(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    waiting = asyncio.create_task(wait_on(seen, "a"))
    await until(lambda: there["a"].checks > 0)
    seen.update({"b": there["b"].check})
    there["a"].silent = True
    async with asyncio.timeout(5):
        with pytest.raises(StageStalled):
            await waiting
    await until(lambda: seen._watching is None)


async def test_whoever_calls_can_wait_for_a_replica_that_is_no_suspect(
    seen: Replicas, there: dict[str, Replica]
) -> None:
    await seen.until_present()
    for name in there:
        there[name].silent = True
        with pytest.raises(StageStalled):
            await wait_on(seen, name)
    waiting = asyncio.create_task(seen.until_present())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    seen.update({"c": Replica().check})  # as Serve starts another one
    async with asyncio.timeout(5):
        await waiting


async def test_a_process_that_was_itself_suspended_blames_nobody(
    there: dict[str, Replica],
) -> None:
    """Of a gap between two looks, only as much counts as there is between three of the usual."""
    hours: list[float] = []

    def clock() -> float:
        hours.append(3600.0 * len(hours))
        return hours[-1]

    seen = Replicas("Denoiser", clock, Patience(lambda: 1.0))
    seen.stall_s = 20 * module.LOOK_EVERY_S
    seen.update({"a": there["a"].check})
    there["a"].silent = True
    with pytest.raises(StageStalled):
        await wait_on(seen, "a")
    assert len(hours) > 10


async def test_on_a_starved_machine_a_replica_has_longer_to_answer(
    there: dict[str, Replica],
) -> None:
    looks: list[float] = []

    def share() -> float:
        looks.append(1 / 100)
        return looks[-1]

    seen = Replicas("Denoiser", patience=Patience(share))
    seen.stall_s = 5 * module.LOOK_EVERY_S
    seen.update({"a": there["a"].check})
    there["a"].silent = True
    with pytest.raises(StageStalled):
        await wait_on(seen, "a")
    assert len(looks) > 20  # of a hundred or so; with a CPU of its own it would be five


async def test_a_given_up_call_says_so_also_between_two_answers() -> None:
    call = Call("denoise")
    assert await call.answer(asyncio.sleep(0, "first")) == "first"
    call.give_up()
    call.give_up()
    later = asyncio.sleep(0)
    with pytest.raises(StageStalled):
        await call.answer(later)
    later.close()


async def test_a_timeout_of_the_stage_itself_is_no_stall() -> None:
    async def raises() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await Call("denoise").answer(raises())
