"""`glimpse.batches`: who shares a call, in what order, and whom a failure reaches."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from glimpse.batches import Batches
from glimpse.torch_thread import TorchThread
from tests.unit.glimpse.hold import held


class Work:
    """Gives each text in capitals; `calls` has the texts of every call. Text is of one kind by its
    first letter; `trouble` is asked before a call answers, and may raise."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.threads: set[int] = set()
        self.trouble: Callable[[list[str]], object] = lambda texts: None

    def __call__(self, texts: list[str]) -> list[str]:
        self.calls.append(texts)
        self.threads.add(threading.get_ident())
        self.trouble(texts)
        return [text.upper() for text in texts]


@pytest.fixture
def thread() -> Iterator[TorchThread]:
    thread = TorchThread(1)
    yield thread
    thread.close()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def batches(thread: TorchThread, work: Work) -> Batches[str, str]:
    return Batches(thread, work, most=lambda text: 3, kind=lambda text: text[0])


async def ask(batches: Batches[str, str], *texts: str) -> list[asyncio.Task[str]]:
    """Asks for them in this order; they wait when this returns."""
    tasks = [asyncio.create_task(batches.run(text)) for text in texts]
    await asyncio.sleep(0)
    return tasks


async def test_one_alone_is_a_call_of_one_on_the_torch_thread(
    thread: TorchThread, batches: Batches[str, str], work: Work
) -> None:
    assert await batches.run("a1") == "A1"
    assert await batches.run("a2") == "A2"
    assert work.calls == [["a1"], ["a2"]]
    assert work.threads == {await thread.run(threading.get_ident)}


async def test_those_alike_share_a_call_of_bounded_size_the_oldest_first(
    thread: TorchThread, batches: Batches[str, str], work: Work
) -> None:
    texts = ["a1", "b1", "a2", "a3", "b2", "a4", "c1"]
    async with held(thread):
        asked = await ask(batches, *texts)
    assert await asyncio.gather(*asked) == [text.upper() for text in texts]
    assert work.calls == [["a1", "a2", "a3"], ["b1", "b2"], ["a4"], ["c1"]]


async def test_how_many_may_share_a_call_depends_on_what_they_are(thread: TorchThread) -> None:
    work = Work()
    batches = Batches(thread, work, most=lambda text: int(text[0]), kind=lambda text: text[0])
    async with held(thread):
        asked = await ask(batches, "0", "0", "2a", "2b", "2c")
    await asyncio.gather(*asked)
    assert work.calls == [["0"], ["0"], ["2a", "2b"], ["2c"]]  # one goes, whatever its size


async def test_other_work_of_the_thread_has_its_turn_after_each_call(
    thread: TorchThread, batches: Batches[str, str], work: Work
) -> None:
    ticks = 4

    def tick() -> None:  # as the engine's: each puts the next one behind what waits
        nonlocal ticks
        work.calls.append(["tick"])
        ticks -= 1
        if ticks:
            thread.post(tick)

    async with held(thread):
        asked = await ask(batches, "a1", "b1", "c1")
        thread.post(tick)
    await asyncio.gather(*asked)
    assert work.calls[:5] == [["a1"], ["tick"], ["b1"], ["tick"], ["c1"]]


async def test_a_failure_reaches_each_of_its_call_and_nobody_else(
    thread: TorchThread, batches: Batches[str, str], work: Work
) -> None:
    def trouble(texts: list[str]) -> None:
        if "a2" in texts:
            raise MemoryError("too many")

    work.trouble = trouble
    async with held(thread):
        asked = await ask(batches, "a1", "b1", "a2", "a3", "a4")
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [MemoryError, str, MemoryError, MemoryError, str]
    assert results[1] == "B1" and results[4] == "A4"
    assert await batches.run("a5") == "A5"


async def test_too_few_results_are_a_failure_and_not_a_wait_for_ever(thread: TorchThread) -> None:
    batches: Batches[str, str] = Batches(thread, lambda texts: texts[1:], most=lambda text: 3)
    async with held(thread):
        asked = await ask(batches, "a", "b")
    for task in asked:
        with pytest.raises(ValueError):
            await asyncio.wait_for(task, 5)


async def test_a_caller_cancelled_before_its_turn_is_left_out(
    thread: TorchThread, batches: Batches[str, str], work: Work
) -> None:
    async with held(thread):
        a1, a2, b1, a3 = await ask(batches, "a1", "a2", "b1", "a3")
        a1.cancel()
        b1.cancel()
        await asyncio.wait({a1, b1})
    assert [await a2, await a3] == ["A2", "A3"]
    assert await batches.run("b2") == "B2"
    assert work.calls == [["a2", "a3"], ["b2"]]


async def test_a_caller_cancelled_during_its_call_takes_nothing_from_the_others(
    batches: Batches[str, str], work: Work
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def trouble(texts: list[str]) -> None:
        started.set()
        assert go_on.wait(5)

    work.trouble = trouble
    [a1] = await ask(batches, "a1")
    assert await asyncio.to_thread(started.wait, 5)
    a2, a3 = await ask(batches, "a2", "a3")
    a1.cancel()
    await asyncio.wait({a1})
    assert a1.cancelled()
    go_on.set()
    assert [await a2, await a3] == ["A2", "A3"]
    assert work.calls == [["a1"], ["a2", "a3"]]


async def test_kinds_that_cannot_be_compared_fail_those_that_wait_and_nobody_later(
    thread: TorchThread, work: Work
) -> None:
    class Odd:
        def __ne__(self, other: object) -> bool:
            raise RuntimeError("ambiguous")

    def kind(text: str) -> Odd | None:
        return Odd() if text.startswith("odd") else None

    batches = Batches(thread, work, most=lambda text: 3, kind=kind)
    async with held(thread):
        asked = await ask(batches, "odd", "odd too")
    results = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
    assert [str(result) for result in results] == ["ambiguous"] * 2
    assert await asyncio.wait_for(batches.run("a"), 5) == "A"


async def test_a_thread_that_takes_nothing_is_asked_again(
    thread: TorchThread, batches: Batches[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(thread, "post", broken)
        with pytest.raises(RuntimeError, match="new thread"):
            await batches.run("a1")
    assert await asyncio.wait_for(batches.run("a2"), 5) == "A2"
