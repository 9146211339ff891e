"""Several clients at once: pictures a second, and how long each client waits."""

import asyncio
import time
from dataclasses import dataclass

import httpx

from benchmarks.client import Received, generate
from benchmarks.samples import Summary, summary
from benchmarks.task import Task, Wanted, preview_steps, wanted

WARM_UP_STEPS = 4


@dataclass(frozen=True, slots=True)
class Load:
    """Each client asks anew as soon as it has its picture. `preview_every` 0: no previews."""

    clients: int
    pictures_each: int
    preview_every: int


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds, from sending a request. `previews_due` is how many were asked for, `rough` how many
    of those delivered came without the decoder."""

    load: Load
    pictures_per_s: float
    first_preview: Summary | None
    total: Summary
    previews: int
    previews_due: int
    rough: int

    @property
    def pictures(self) -> int:
        return self.load.clients * self.load.pictures_each

    @property
    def dropped(self) -> int:
        return self.previews_due - self.previews


def warm_up(url: str, load: Load) -> None:
    """First calls with as many rows as a load brings together are slow: they come before it."""
    asyncio.run(_warm_up(url, load.clients))


async def _warm_up(url: str, clients: int) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        await asyncio.gather(
            *(
                generate(client, Wanted("warm up", seed, WARM_UP_STEPS, preview_every=1).fields())
                for seed in range(clients)
            )
        )


def measure(url: str, task: Task, load: Load) -> Figure:
    return asyncio.run(_measure(url, task, load))


async def _measure(url: str, task: Task, load: Load) -> Figure:
    async with httpx.AsyncClient(base_url=url) as client:

        async def one_client(first: int) -> list[Received]:
            return [
                await generate(client, wanted(task, index, load.preview_every).fields())
                for index in range(first, first + load.pictures_each)
            ]

        began = time.perf_counter()
        of_clients = await asyncio.gather(
            *(one_client(n * load.pictures_each) for n in range(load.clients))
        )
        seconds = time.perf_counter() - began
    received = [each for several in of_clients for each in several]
    first_previews = [each.previews_s[0] for each in received if each.previews_s]
    return Figure(
        load=load,
        pictures_per_s=len(received) / seconds,
        first_preview=summary(first_previews) if first_previews else None,
        total=summary([each.final_s for each in received]),
        previews=sum(len(each.previews_s) for each in received),
        previews_due=len(received) * len(preview_steps(task.steps, load.preview_every)),
        rough=sum(each.rough for each in received),
    )
