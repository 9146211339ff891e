"""`glimpse.torch_thread`: one thread, its settings, and calls that wait their turn."""

import asyncio
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from glimpse.torch_thread import TorchThread


@pytest.fixture
def thread() -> Iterator[TorchThread]:
    thread = TorchThread(1)
    yield thread
    thread.close()


async def test_every_call_is_on_the_one_thread(thread: TorchThread) -> None:
    idents = {thread.call(threading.get_ident), await thread.run(threading.get_ident)}
    idents |= set(await asyncio.gather(*(thread.run(threading.get_ident) for _ in range(5))))
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def test_torch_is_told_its_threads_and_to_keep_no_gradients() -> None:
    for threads in (1, 2):
        thread = TorchThread(threads)
        assert thread.call(torch.get_num_threads) == threads
        assert thread.call(torch.is_grad_enabled) is False
        thread.close()
    assert torch.is_grad_enabled()
    torch.set_num_threads(1)


PAGE_FAULTS = """
import resource
import torch
from glimpse.torch_thread import TorchThread

def page_faults():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    blocks = [torch.ones(2**20, dtype=torch.uint8) for _ in range(32)]
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

thread = TorchThread(1)
kept = thread.call(torch.ones, 1000)  # as the weights are
first = thread.call(page_faults)
print(min(thread.call(page_faults) for _ in range(5)) / first)
thread.close()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc than glibc's")
def test_memory_that_was_freed_is_taken_again_without_page_faults() -> None:
    # A process of its own: malloc's settings are of a whole process, and others have set them here.
    command = [sys.executable, "-c", PAGE_FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert float(done.stdout) < 0.1


async def test_what_a_function_gives_or_raises_comes_back(thread: TorchThread) -> None:
    assert thread.call(divmod, 7, 2) == await thread.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        thread.call(divmod, 7, 0)
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 7, 0)


async def test_the_event_loop_goes_on_while_a_function_runs(thread: TorchThread) -> None:
    go_on = threading.Event()
    running = asyncio.create_task(thread.run(go_on.wait, 5))
    await asyncio.sleep(0.01)
    assert not running.done()
    go_on.set()
    assert await running is True


async def test_a_call_cancelled_before_its_turn_never_runs_and_one_under_way_ends(
    thread: TorchThread,
) -> None:
    seen: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait(5)
        seen.append("under way")

    under_way = asyncio.create_task(thread.run(work))
    waiting = asyncio.create_task(thread.run(seen.append, "waiting"))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(started.wait, 5)
    under_way.cancel()
    waiting.cancel()
    await asyncio.wait({under_way, waiting})
    go_on.set()
    await thread.run(seen.append, "next")
    assert seen == ["under way", "next"]
