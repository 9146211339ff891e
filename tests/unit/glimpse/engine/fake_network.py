"""An engine's surroundings as a test wants them: a network, copies to the host, and jobs."""

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import torch

from glimpse.engine.host_copy import HostCopies, HostCopy
from glimpse.engine.job import Posterior, Rows
from glimpse.engine.loop import Engine
from glimpse.ports import DenoiseOptions, Priority, StepEvent
from tests.fakes import until
from tests.tiny_model import scheduler_config
from tests.unit.glimpse.engine.oracle import make_job


class FakeNetwork:
    """A network that predicts next to nothing; a job's conditioning is its name.

    `calls` has the names of every call; `trouble` is asked before each answers, and may raise.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    latent_channels = 4
    latent_factor = 8

    def __init__(self) -> None:
        self.scheduler_config: Mapping[str, Any] = scheduler_config()
        self.names: list[str] = []  # of the jobs that have begun
        self.calls: list[list[str]] = []
        self.trouble: Callable[[list[str]], object] = lambda names: None
        self.hold_at: int | None = None  # the call that waits until it is free; None: all
        self.free = threading.Event()
        self.free.set()

    @property
    def steps(self) -> int:
        return sum(len(names) for names in self.calls)

    def rows(self, conditioning: str, guided: bool, width: int, height: int) -> Rows:
        if conditioning == "cannot begin":
            raise ValueError("no such conditioning")
        self.names.append(conditioning)
        number = float(len(self.names) - 1)
        tokens = torch.full((2 if guided else 1, 1, 1), number)
        return Rows((tokens,))

    def posterior(self, image: Any) -> Posterior:
        raise NotImplementedError

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        assert len(latents) == len(timesteps) == len(rows)
        numbers = [int(number) for number in rows.tensors[0].flatten()]
        names = list(dict.fromkeys(self.names[number] for number in numbers))
        self.calls.append(names)
        if self.hold_at is None or len(self.calls) == self.hold_at:
            assert self.free.wait(5)
        self.trouble(names)
        prediction = latents * 0.1
        for row, number in enumerate(numbers):
            if self.names[number] == "NaN":
                prediction[row] = math.nan
        return prediction


class FakeCopies(HostCopies):
    """Copies that have arrived when `there` says so, and raise `trouble`."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.there: Callable[[], bool] = lambda: True
        self.trouble: Callable[[], object] = lambda: None

    def start(self, tensor: torch.Tensor) -> HostCopy:
        return FakeCopy(super().start(tensor), self)

    def keep(self, tensor: torch.Tensor) -> HostCopy:
        return FakeCopy(super().keep(tensor), self)


class FakeCopy(HostCopy):
    def __init__(self, copy: HostCopy, copies: FakeCopies) -> None:
        super().__init__(copy.tensor(), None)
        self._copies = copies

    @property
    def there(self) -> bool:
        return self._copies.there()

    def tensor(self) -> torch.Tensor:
        self._copies.trouble()
        return super().tensor()


def raising_once(failure: Exception) -> Callable[[], None]:
    """Stands for a CUDA error, which surfaces wherever the device is next asked for something."""
    failures = [failure]

    def trouble() -> None:
        if failures:
            raise failures.pop()

    return trouble


def denoise(
    engine: Engine, name: str = "a", *, job: dict[str, Any] | None = None, **changes: Any
) -> AsyncGenerator[StepEvent, None]:
    """Four steps with guidance that are all told of, but for `changes` of the options."""
    usual: dict[str, Any] = {
        "priority": Priority.INTERACTIVE,
        "deadline_s": None,
        "emit_at": frozenset({1, 2, 3}),
    }
    options = DenoiseOptions(**(usual | changes))
    return engine.denoise(make_job(**(job or {})), name, None, options)


async def drain(stream: AsyncGenerator[StepEvent, None]) -> list[StepEvent]:
    async with asyncio.timeout(5):
        return [event async for event in stream]


def started(engine: Engine, name: str = "a", **changes: Any) -> asyncio.Task[list[StepEvent]]:
    return asyncio.create_task(drain(denoise(engine, name, **changes)))


async def arrived(engine: Engine, count: int) -> None:
    """Lets the other tasks run until so many jobs wait for a tick that is held up."""
    await until(lambda: len(engine._mailbox) == count)
