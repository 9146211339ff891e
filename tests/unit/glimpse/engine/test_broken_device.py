"""What happens where an error of the device is one that it does not get over. The device is
pretended: one that raises when it is asked how it is."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from glimpse.batches import Batches
from glimpse.engine.loop import Engine
from glimpse.errors import StageFailed
from glimpse.torch_thread import TorchThread
from tests.unit.glimpse.engine.fake_network import (
    FakeCopies,
    FakeNetwork,
    denoise,
    drain,
    raising_once,
    started,
)

ILLEGAL = "CUDA error: an illegal memory access was encountered"


class Device:
    """Counts how often it is asked, and how often its process has ended."""

    def __init__(self) -> None:
        self.broken = False
        self.asked = self.ended = 0

    def probe(self) -> None:
        self.asked += 1
        if self.broken:
            raise RuntimeError(ILLEGAL)

    def end_process(self) -> None:
        self.ended += 1

    def breaks(self, *_: object) -> None:
        self.broken = True
        raise RuntimeError(ILLEGAL)


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def thread(device: Device) -> Iterator[TorchThread]:
    thread = TorchThread(1, probe=device.probe, end_process=device.end_process)
    yield thread
    thread.close()


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def copies() -> FakeCopies:
    return FakeCopies()


@pytest.fixture
def engine(network: FakeNetwork, thread: TorchThread, copies: FakeCopies) -> Engine:
    return Engine(network, thread, row_budget=8, copies=copies)


async def test_an_error_that_stays_ends_the_process_once(
    engine: Engine, network: FakeNetwork, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    network.trouble = device.breaks
    jobs = [started(engine, name) for name in "ab"]
    for end in await asyncio.gather(*jobs, return_exceptions=True):
        assert isinstance(end, RuntimeError)
    assert device.ended == 1
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1


async def test_an_error_that_stays_is_seen_where_a_result_is_copied(
    engine: Engine, copies: FakeCopies, device: Device
) -> None:
    copies.trouble = device.breaks
    with pytest.raises(StageFailed):
        await drain(denoise(engine))
    assert device.ended == 1


async def test_an_error_that_passes_fails_its_job_alone(
    engine: Engine, copies: FakeCopies, device: Device
) -> None:
    copies.trouble = raising_once(RuntimeError(ILLEGAL))
    bad, one = started(engine, "bad", emit_denoised_at=frozenset({1})), started(engine, "one")
    with pytest.raises(StageFailed):
        await bad
    assert len(await one) == 4
    assert device.asked > 0 and device.ended == 0


async def test_a_device_that_is_out_of_memory_is_not_even_asked(
    engine: Engine, network: FakeNetwork, device: Device
) -> None:
    def trouble(names: list[str]) -> None:
        device.broken = True
        raise torch.OutOfMemoryError

    network.trouble = trouble
    with pytest.raises(StageFailed, match="denoise"):
        await drain(denoise(engine))
    assert device.asked == device.ended == 0


def calls(thread: TorchThread, breaks: Callable[[object], None]) -> dict[str, Callable[[], object]]:
    batches: Batches[int, None] = Batches(thread, breaks, most=lambda _: 1)  # type: ignore[arg-type]
    return {
        "batch": lambda: asyncio.run(batches.run(1)),
        "run": lambda: asyncio.run(thread.run(breaks, 1)),
        "call": lambda: thread.call(breaks, 1),
    }


@pytest.mark.parametrize("kind", ["batch", "run", "call"])
def test_every_call_of_the_thread_sees_an_error_that_stays(
    thread: TorchThread, device: Device, kind: str
) -> None:
    with pytest.raises(RuntimeError, match="illegal"):
        calls(thread, device.breaks)[kind]()
    assert device.ended == 1


def test_the_process_does_end() -> None:
    program = """
from glimpse.torch_thread import TorchThread

def broken():
    raise RuntimeError("broken")

thread = TorchThread(1, probe=broken)
thread.call(broken)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    assert done.returncode == 1
    assert b"the device cannot be used any more" in done.stderr
    assert b"Traceback (most recent call last):\n  File" in done.stderr
    assert b"line 8, in <module>" not in done.stderr  # it did not come back
