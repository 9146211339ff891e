"""A realtime job that arrives behind a crowd of background jobs: how many ticks until its first
step is done.

Through the denoiser's own port, in a process of its own: `python -m benchmarks.realtime CONFIG
CROWD` prints the number.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.processes import output_of
from benchmarks.server import settings_of
from benchmarks.task import PROMPTS
from config.settings import AppSettings

if TYPE_CHECKING:
    from deployments.denoiser import Denoiser

CROWD = 16
TICKS_BEFORE = 3  # of the crowd, before the realtime job arrives


def measure(config: Path, crowd: int = CROWD) -> int:
    command = [sys.executable, "-m", "benchmarks.realtime", str(config), str(crowd)]
    return int(output_of(command).splitlines()[-1])


async def _measure(settings: AppSettings, crowd: int) -> int:
    from deployments.denoiser import Denoiser
    from glimpse.ports import DenoiseOptions, Job, Priority, StepEvent

    denoiser = Denoiser(settings)
    embeddings = _embeddings(settings)
    model = settings.model

    def job(seed: int, priority: Priority) -> AsyncGenerator[StepEvent, None]:
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
            [conditioning()],
            None,
            DenoiseOptions(priority=priority, deadline_s=None, emit_at=frozenset({1})),
        )

    def conditioning() -> asyncio.Future[Any]:
        """As what a Ray reference is awaited for."""
        ready = asyncio.get_running_loop().create_future()
        ready.set_result(embeddings)
        return ready

    async with AsyncExitStack() as stack:
        waiting = []
        for seed in range(crowd):
            steps = await stack.enter_async_context(aclosing(job(seed, Priority.BACKGROUND)))
            waiting.append(asyncio.ensure_future(anext(steps)))
        while await _ticks(denoiser) < TICKS_BEFORE:
            await asyncio.sleep(0.001)
        before = await _ticks(denoiser)
        realtime = await stack.enter_async_context(aclosing(job(crowd, Priority.REALTIME)))
        await anext(realtime)
        passed = await _ticks(denoiser) - before
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
    while (jobs := await denoiser.ping())["running"] or jobs["waiting"]:
        await asyncio.sleep(0.001)  # a process that ends in mid-tick complains
    return passed


def _embeddings(settings: AppSettings) -> Any:
    import torch

    from deployments.model_source import model_source
    from glimpse.families.conditioning import Conditioning
    from glimpse.families.sdxl import SDXLTextEncoder

    with torch.inference_mode():
        [embedding] = SDXLTextEncoder(model_source(settings.model)).encode([PROMPTS[0]])
    return Conditioning(embedding, None)


async def _ticks(denoiser: "Denoiser") -> int:
    ticks: int = (await denoiser.ping())["ticks"]
    return ticks


if __name__ == "__main__":
    print(asyncio.run(_measure(settings_of(Path(sys.argv[1])), int(sys.argv[2]))))
