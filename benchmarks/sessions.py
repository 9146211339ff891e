"""Many realtime sessions at once, each with a seed of its own: is each given as much as the others,
and its own pictures?"""

import asyncio
import io
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from websockets.asyncio.client import ClientConnection

from benchmarks.realtime_client import Answer, ask, connected
from benchmarks.samples import Summary, summary

WARM_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class Figure:
    """`fewest` and `most` results of one session, of all within `seconds`. `largest_difference`, of
    255, is between any picture and the one that the server made of the same seed with nobody
    else there; a batch of another size rounds otherwise."""

    sessions: int
    seconds: float
    results: int
    fewest: int
    most: int
    round_trip: Summary
    largest_difference: int

    @property
    def fairness(self) -> float:
        return self.most / max(1, self.fewest)


async def measure(url: str, fields: Mapping[str, Any], sessions: int, seconds: float) -> Figure:
    asked = [{**fields, "seed": seed, "output_format": "png"} for seed in range(sessions)]
    async with connected(url) as connection:
        alone = [_pixels((await ask(connection, each)).result) for each in asked]
    async with AsyncExitStack() as stack:
        # One after another: that many handshakes at once would be another figure.
        connections = [await stack.enter_async_context(connected(url)) for _ in asked]
        together = list(zip(connections, asked, strict=True))
        await asyncio.gather(*(_keep_asking(*each, WARM_UP_S) for each in together))
        answers = await asyncio.gather(*(_keep_asking(*each, seconds) for each in together))
    counts = [len(each) for each in answers]
    return Figure(
        sessions=sessions,
        seconds=seconds,
        results=sum(counts),
        fewest=min(counts),
        most=max(counts),
        round_trip=summary([answer.seconds for each in answers for answer in each]),
        largest_difference=max(
            int(np.abs(_pixels(answer.result) - reference).max())
            for each, reference in zip(answers, alone, strict=True)
            for answer in each
        ),
    )


async def _keep_asking(
    connection: ClientConnection, fields: Mapping[str, Any], seconds: float
) -> list[Answer]:
    """The answers within some seconds. One that comes later is waited for, and not counted."""
    answers: list[Answer] = []
    until = time.perf_counter() + seconds
    while True:
        answer = await ask(connection, fields)
        if time.perf_counter() > until:
            return answers
        answers.append(answer)


def _pixels(result: Mapping[str, Any]) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(result["image"]["content"])), np.int16)
