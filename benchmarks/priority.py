"""A crowd of background jobs: how many ticks until a realtime job that arrives behind it has done
its first step, and how late the event loop is meanwhile.

Through the denoiser's own port, in a process of its own: `python -m benchmarks.priority CONFIG`
prints the figure as JSON.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from benchmarks.processes import as_nice_as_workers, output_of
from benchmarks.server import settings_of
from benchmarks.task import PROMPTS
from config.settings import AppSettings

if TYPE_CHECKING:
    from deployments.denoiser import Denoiser
    from glimpse.ports import StepEvent

CROWD = 16
TICKS_BEFORE = 3  # of the crowd, before the realtime job arrives
SLEEP_S = 0.002  # long against the clock's grain, short against a tick


@dataclass(frozen=True, slots=True)
class Figure:
    """`ticks`: of the realtime job. The lag is by how much short sleeps of the event loop were too
    long, in seconds, while the crowd was stepped."""

    ticks: int
    sleeps: int
    lag_p50_s: float
    lag_p99_s: float


def measure(config: Path) -> Figure:
    command = [sys.executable, "-m", "benchmarks.priority", str(config)]
    return TypeAdapter(Figure).validate_json(
        output_of(as_nice_as_workers(command)).splitlines()[-1]
    )


async def _measure(settings: AppSettings) -> Figure:
    from deployments.denoiser import Denoiser
    from deployments.references import Inputs
    from glimpse.ports import DenoiseOptions, Job, Priority

    denoiser = Denoiser(settings)
    embeddings = _embeddings(settings)
    model = settings.model

    def job(seed: int, priority: Priority) -> AsyncGenerator["StepEvent", None]:
        return denoiser.denoise(
            Job(
                id=f"{priority.name} {seed}",
                width=model.width,
                height=model.height,
                num_inference_steps=model.num_inference_steps,
                guidance_scale=model.guidance_scale,
                seed=seed,
                scheduler=model.scheduler,
                strength=1.0,
            ),
            Inputs(("", None), ([conditioning()], None)),
            DenoiseOptions(priority=priority, deadline_s=None, emit_at=frozenset({1})),
        )

    def conditioning() -> asyncio.Future[Any]:
        """As what a Ray reference is awaited for."""
        ready = asyncio.get_running_loop().create_future()
        ready.set_result(embeddings)
        return ready

    async with AsyncExitStack() as stack:
        waiting = []
        for seed in range(CROWD):
            steps = await stack.enter_async_context(aclosing(job(seed, Priority.BACKGROUND)))
            waiting.append(asyncio.ensure_future(_run_out(steps)))
        while await _ticks(denoiser) < TICKS_BEFORE:
            await asyncio.sleep(0.001)
        before = await _ticks(denoiser)
        realtime = await stack.enter_async_context(aclosing(job(CROWD, Priority.REALTIME)))
        await anext(realtime)
        passed = await _ticks(denoiser) - before
        lags = await _lags_until(asyncio.gather(*waiting))
    while (jobs := await denoiser.ping())["running"] or jobs["waiting"]:
        await asyncio.sleep(0.001)  # a process that ends in mid-tick complains
    p50, p99 = np.percentile(lags, [50, 99])
    return Figure(passed, len(lags), float(p50), float(p99))


def _embeddings(settings: AppSettings) -> Any:
    import torch

    from deployments.model_source import model_source
    from glimpse.families.conditioning import Conditioning
    from glimpse.families.sdxl import SDXLTextEncoder

    with torch.inference_mode():
        [embedding] = SDXLTextEncoder(model_source(settings.model)).encode([PROMPTS[0]])
    return Conditioning(embedding, None)


async def _lags_until(ends: asyncio.Future[Any]) -> list[float]:
    """By how many seconds each short sleep until then was too long."""
    lags = []
    while not ends.done():
        asleep = time.perf_counter()
        await asyncio.sleep(SLEEP_S)
        lags.append(time.perf_counter() - asleep - SLEEP_S)
    await ends
    return lags


async def _run_out(steps: AsyncGenerator["StepEvent", None]) -> None:
    async for _ in steps:
        pass


async def _ticks(denoiser: "Denoiser") -> int:
    ticks: int = (await denoiser.ping())["ticks"]
    return ticks


if __name__ == "__main__":
    found = asyncio.run(_measure(settings_of(Path(sys.argv[1]))))
    print(TypeAdapter(Figure).dump_json(found).decode())
