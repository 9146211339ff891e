"""One client: the service against diffusers' own pipeline, picture by picture in turn."""

import asyncio
import io
from dataclasses import dataclass

import httpx
import numpy as np
from PIL import Image

from benchmarks import pipeline
from benchmarks.client import Received, generate
from benchmarks.pipeline import Pipeline
from benchmarks.processes import used
from benchmarks.samples import Summary, summary
from benchmarks.server import Server
from benchmarks.task import PREVIEW_EVERY, Task, wanted
from config.settings import AppSettings


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds. `largest_difference` is between the service's pixels, as PNG, and the pipeline's,
    of 255: both make the same picture."""

    steps: int
    width: int
    height: int
    pipeline_threads: int
    pipeline: Summary
    without_previews: Summary
    with_previews: Summary
    first_preview: Summary
    previews_received: float
    timings: dict[str, float]
    largest_difference: int

    @property
    def over_pipeline(self) -> float:
        return self.without_previews.p50 / self.pipeline.p50

    @property
    def previews_add(self) -> float:
        return self.with_previews.p50 / self.without_previews.p50 - 1


def measure(server: Server, settings: AppSettings, pictures: int = 20) -> Figure:
    task = Task.of(settings)
    with pipeline.running(task, _niceness(server)) as reference:
        return asyncio.run(_measure(server, task, reference, pictures))


def _niceness(server: Server) -> int:
    """Of the replicas: Ray runs its workers at 15."""
    return max(process.niceness for process in used(server.root))


async def _measure(server: Server, task: Task, reference: Pipeline, pictures: int) -> Figure:
    bare: list[float] = []
    plain: list[Received] = []
    previewed: list[Received] = []
    async with httpx.AsyncClient(base_url=server.url) as client:
        difference = await _difference(client, task, reference)
        for index in range(pictures):
            without = wanted(task, index, 0)
            bare.append(reference.picture(without).seconds)
            plain.append(await generate(client, without.fields()))
            previewed.append(await generate(client, wanted(task, index, PREVIEW_EVERY).fields()))
    return Figure(
        steps=task.steps,
        width=task.width,
        height=task.height,
        pipeline_threads=reference.threads,
        pipeline=summary(bare),
        without_previews=summary([each.final_s for each in plain]),
        with_previews=summary([each.final_s for each in previewed]),
        first_preview=summary([each.previews_s[0] for each in previewed]),
        previews_received=float(np.mean([len(each.previews_s) for each in previewed])),
        timings={
            stage: float(np.median([each.timings[stage] for each in plain]))
            for stage in plain[0].timings
        },
        largest_difference=difference,
    )


async def _difference(client: httpx.AsyncClient, task: Task, reference: Pipeline) -> int:
    asked = wanted(task, 0, 0)
    ours = (await generate(client, {**asked.fields(), "output_format": "png"})).picture
    theirs = reference.picture(asked).pixels.astype(np.int16)
    difference = np.asarray(Image.open(io.BytesIO(ours)), np.int16) - theirs
    return int(np.abs(difference).max())
