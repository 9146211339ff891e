"""The engine against the unmodified diffusers pipeline, with the built-in model."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from typing import Any

import pytest
import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from numpy.typing import NDArray

from config.settings import ROOT
from glimpse.decoders import FullVAE
from glimpse.engine.loop import Engine
from glimpse.families.conditioning import Conditioning
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder, Tuning
from glimpse.families.source import ModelSource
from glimpse.ports import DenoiseOptions, Priority, StepEvent
from glimpse.torch_thread import TorchThread
from tests.unit.glimpse.engine.oracle import (
    PROMPT,
    SCHEDULERS,
    chance_mask,
    chance_pixels,
    make_job,
    theirs,
)

MODEL = ROOT / "models" / "miniature"
WORDS = ("a windmill in the snow", "a red balloon over the sea", "cacti at night", "")
NEIGHBOURS = 7
SIDE = 128
# From what a picture is made: the text alone, a picture as well, or that and a mask.
FROM = {
    "text": StableDiffusionXLPipeline,
    "picture": StableDiffusionXLImg2ImgPipeline,
    "mask": StableDiffusionXLInpaintPipeline,
}
STRENGTHS = {1: 1.0, 4: 0.5, 20: 0.6}  # by number of steps, where a picture is given


class Bench:
    """The model's parts, all on one torch thread, and the pipeline of the same weights beside."""

    def __init__(self) -> None:
        self.thread = TorchThread(2)
        self.thread.call(self._load)

    def _load(self) -> None:
        source = ModelSource.of(
            str(MODEL), variant=None, revision=None, dtype="float32", device="cpu"
        )
        self.network = SDXLNetwork(source, Tuning(threads=2, traced=True))  # as it is served
        encoder = SDXLTextEncoder(source)
        # One by one, as the pipeline does: in a batch the last bits are others.
        self.texts = {
            text: Conditioning(encoder.encode([text])[0], None) for text in (PROMPT, *WORDS)
        }
        pipeline = StableDiffusionXLPipeline.from_pretrained(MODEL, dtype=torch.float32)
        self.pipelines = {kind: theirs.from_pipe(pipeline) for kind, theirs in FROM.items()}
        for each in self.pipelines.values():
            each.set_progress_bar_config(disable=True)
        job = job_of("euler", 1, 1)
        (self.picture, pixels), (self.mask, cells) = chance_pixels(job), chance_mask(job)
        vae = FullVAE(source, channels_last=False)
        self.images = {
            "text": None,
            "picture": vae.posterior(pixels, None),
            "mask": vae.posterior(pixels, cells),
        }

    def engine(self) -> Engine:
        return Engine(self.network, self.thread, row_budget=2 * (NEIGHBOURS + 1))

    def expected(self, job: Any, kind: str) -> torch.Tensor:
        config, size = self.network.scheduler_config, {"width": SIDE, "height": SIDE}
        picture = {"image": self.picture, "strength": job.strength}
        options: dict[str, Any] = {
            "text": size,
            "picture": picture,
            "mask": {**size, **picture, "mask_image": self.mask},
        }[kind]
        pipeline = self.pipelines[kind]
        return self.thread.call(lambda: theirs(pipeline, job, None, config, **options)).latents

    def denoise(
        self, engine: Engine, job: Any, kind: str, text: str
    ) -> AsyncGenerator[StepEvent, None]:
        options = DenoiseOptions(priority=Priority.INTERACTIVE, deadline_s=None)
        return engine.denoise(job, self.texts[text], self.images[kind], options)

    async def latents(
        self, engine: Engine, job: Any, kind: str, text: str = PROMPT
    ) -> NDArray[Any]:
        async with aclosing(self.denoise(engine, job, kind, text)) as events:
            last = [event async for event in events][-1]
        assert last.latents is not None
        return last.latents


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.thread.close()


def job_of(
    scheduler: str, guidance_scale: float, steps: int, seed: int = 11, strength: float = 1.0
) -> Any:
    return make_job(
        width=SIDE,
        height=SIDE,
        strength=strength,
        scheduler=scheduler,
        guidance_scale=guidance_scale,
        num_inference_steps=steps,
        seed=seed,
    )


@pytest.mark.parametrize("kind", FROM)
@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_alone_a_job_equals_the_pipeline_to_the_bit(
    bench: Bench, scheduler: str, guidance_scale: float, kind: str
) -> None:
    engine = bench.engine()
    for steps, strength in STRENGTHS.items():
        job = job_of(scheduler, guidance_scale, steps, strength=strength)
        made = torch.from_numpy(await bench.latents(engine, job, kind))
        assert torch.equal(made, bench.expected(job, kind)[0]), f"{steps} steps"


@pytest.mark.parametrize("kind", FROM)
@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_next_to_seven_that_come_and_go_a_job_makes_the_same_picture(
    bench: Bench, scheduler: str, guidance_scale: float, kind: str
) -> None:
    engine = bench.engine()
    rng = random.Random(f"{scheduler}/{guidance_scale}/{kind}")
    neighbours = [asyncio.create_task(_neighbour(bench, engine, rng)) for _ in range(NEIGHBOURS)]
    try:
        async with asyncio.timeout(60):
            while engine.counters["running"] < NEIGHBOURS - 1:
                await asyncio.sleep(0.001)
        before = engine.counters
        job = job_of(scheduler, guidance_scale, 20, strength=STRENGTHS[20])
        made = torch.from_numpy(await bench.latents(engine, job, kind))
        after = engine.counters
    finally:
        for neighbour in neighbours:
            neighbour.cancel()
        await asyncio.wait(neighbours)
    assert all(neighbour.cancelled() for neighbour in neighbours)  # none has failed
    rows = (after["rows_run"] - before["rows_run"]) / (after["ticks"] - before["ticks"])
    assert rows > 4, "the neighbours were not there"
    # A batch of another size rounds otherwise, and Euler's first sigma is about 4,096.
    tolerance = 2e-3 if scheduler.startswith("euler") else 1e-4
    assert (made - bench.expected(job, kind)[0]).abs().max() < tolerance


async def _neighbour(bench: Bench, engine: Engine, rng: random.Random) -> None:
    """Job after job, each different; every fourth is given up after a while."""
    while True:
        job = job_of(
            rng.choice(list(SCHEDULERS)),
            rng.choice([1.0, 2.5, 7.0]),
            rng.randint(2, 12),
            rng.randrange(1000),
            strength=rng.choice([0.5, 0.8]),
        )
        kind = rng.choice(list(FROM))
        patience = rng.choice([0.05, None, None, None])
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await bench.latents(engine, job, kind, rng.choice(WORDS))
