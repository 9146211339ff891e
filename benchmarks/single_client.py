"""One client: the service against diffusers' own pipeline, picture by picture in turn."""

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks import pipeline
from benchmarks.client import Received, generate
from benchmarks.pipeline import Pipeline, Wanted
from benchmarks.processes import used
from benchmarks.samples import Summary, summary
from benchmarks.server import Server
from config.settings import AppSettings

PREVIEW_EVERY = 5
PROMPTS = (
    "a red lighthouse on a cliff at dusk",
    "a windmill in a field of wheat in the morning",
    "a small boat on a calm sea at night, with a full moon",
    "a snowy mountain behind a wooden cabin",
)


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
    with pipeline.running(settings.model, _niceness(server)) as reference:
        return asyncio.run(_measure(server, settings, reference, pictures))


def _niceness(server: Server) -> int:
    """Of the replicas: Ray runs its workers at 15."""
    return max(process.niceness for process in used(server.root))


async def _measure(
    server: Server, settings: AppSettings, reference: Pipeline, pictures: int
) -> Figure:
    bare: list[float] = []
    plain: list[Received] = []
    previewed: list[Received] = []
    async with httpx.AsyncClient(base_url=server.url) as client:
        difference = await _difference(client, reference)
        for index in range(pictures):
            wanted = Wanted(PROMPTS[index % len(PROMPTS)], index)
            bare.append(reference.picture(wanted)[0])
            plain.append(await generate(client, _fields(wanted, preview_every=0)))
            previewed.append(await generate(client, _fields(wanted, preview_every=PREVIEW_EVERY)))
    model = settings.model
    return Figure(
        steps=model.num_inference_steps,
        width=model.width,
        height=model.height,
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


def _fields(wanted: Wanted, **others: object) -> Mapping[str, Any]:
    return {"prompt": wanted.prompt, "seed": wanted.seed, **others}


async def _difference(client: httpx.AsyncClient, reference: Pipeline) -> int:
    wanted = Wanted(PROMPTS[0], 0)
    ours = (await generate(client, _fields(wanted, output_format="png"))).picture
    _, theirs = reference.picture(wanted)
    difference = np.asarray(Image.open(io.BytesIO(ours)), np.int16) - np.asarray(theirs, np.int16)
    return int(np.abs(difference).max())
