"""Several clients at once: pictures a second, and how long each client waits."""

import asyncio
import time
from dataclasses import dataclass

import httpx

from benchmarks.client import Received, generate
from benchmarks.samples import Summary, summary
from benchmarks.server import Server
from benchmarks.single_client import PREVIEW_EVERY, PROMPTS

CLIENTS = (1, 4, 8)
PICTURES = 24


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds, from sending a request. Each client asks anew as soon as it has its picture."""

    clients: int
    pictures_per_s: float
    first_preview: Summary
    total: Summary


def measure(server: Server) -> list[Figure]:
    return [asyncio.run(_measure(server, clients)) for clients in CLIENTS]


async def _measure(server: Server, clients: int) -> Figure:
    waiting = list(range(PICTURES))

    async def ask_again_and_again(client: httpx.AsyncClient) -> list[Received]:
        received = []
        while waiting:
            index = waiting.pop()
            fields = {
                "prompt": PROMPTS[index % len(PROMPTS)],
                "seed": index,
                "preview_every": PREVIEW_EVERY,
            }
            received.append(await generate(client, fields))
        return received

    async with httpx.AsyncClient(base_url=server.url) as client:
        began = time.perf_counter()
        asked = await asyncio.gather(*(ask_again_and_again(client) for _ in range(clients)))
        seconds = time.perf_counter() - began
    received = [each for of_client in asked for each in of_client]
    return Figure(
        clients=clients,
        pictures_per_s=len(received) / seconds,
        first_preview=summary([each.previews_s[0] for each in received]),
        total=summary([each.final_s for each in received]),
    )
