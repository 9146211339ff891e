"""The engine against the unmodified diffusers pipeline, with the built-in model."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray

from config.settings import ROOT
from glimpse.engine.loop import Engine
from glimpse.families.conditioning import Conditioning
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder, Tuning
from glimpse.families.source import ModelSource
from glimpse.ports import DenoiseOptions, Priority, StepEvent
from glimpse.torch_thread import TorchThread
from tests.unit.glimpse.engine.oracle import PROMPT, SCHEDULERS, make_job, theirs

MODEL = ROOT / "models" / "miniature"
WORDS = ("a windmill in the snow", "a red balloon over the sea", "cacti at night", "")
NEIGHBOURS = 7


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
        self.pipeline = StableDiffusionXLPipeline.from_pretrained(MODEL, dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)

    def engine(self) -> Engine:
        return Engine(self.network, self.thread, row_budget=2 * (NEIGHBOURS + 1))

    def expected(self, job: Any) -> torch.Tensor:
        config, size = self.network.scheduler_config, {"width": job.width, "height": job.height}
        return self.thread.call(lambda: theirs(self.pipeline, job, None, config, **size)).latents

    def denoise(self, engine: Engine, job: Any, text: str) -> AsyncGenerator[StepEvent, None]:
        options = DenoiseOptions(priority=Priority.INTERACTIVE, deadline_s=None)
        return engine.denoise(job, self.texts[text], None, options)

    async def latents(self, engine: Engine, job: Any, text: str = PROMPT) -> NDArray[Any]:
        async with aclosing(self.denoise(engine, job, text)) as events:
            last = [event async for event in events][-1]
        assert last.latents is not None
        return last.latents


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.thread.close()


def job_of(scheduler: str, guidance_scale: float, steps: int, seed: int = 11) -> Any:
    return make_job(
        width=128,
        height=128,
        scheduler=scheduler,
        guidance_scale=guidance_scale,
        num_inference_steps=steps,
        seed=seed,
    )


@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_alone_a_job_equals_the_pipeline_to_the_bit(
    bench: Bench, scheduler: str, guidance_scale: float
) -> None:
    engine = bench.engine()
    for steps in (1, 4, 20):
        job = job_of(scheduler, guidance_scale, steps)
        made = torch.from_numpy(await bench.latents(engine, job))
        assert torch.equal(made, bench.expected(job)[0]), f"{steps} steps"


@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_next_to_seven_that_come_and_go_a_job_makes_the_same_picture(
    bench: Bench, scheduler: str, guidance_scale: float
) -> None:
    engine = bench.engine()
    rng = random.Random(f"{scheduler}/{guidance_scale}")
    neighbours = [asyncio.create_task(_neighbour(bench, engine, rng)) for _ in range(NEIGHBOURS)]
    try:
        async with asyncio.timeout(60):
            while engine.counters["running"] < NEIGHBOURS - 1:
                await asyncio.sleep(0.001)
        before = engine.counters
        job = job_of(scheduler, guidance_scale, 20)
        made = torch.from_numpy(await bench.latents(engine, job))
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
    assert (made - bench.expected(job)[0]).abs().max() < tolerance


async def _neighbour(bench: Bench, engine: Engine, rng: random.Random) -> None:
    """Job after job, each different; every fourth is given up after a while."""
    while True:
        job = job_of(
            rng.choice(list(SCHEDULERS)),
            rng.choice([1.0, 2.5, 7.0]),
            rng.randint(1, 12),
            rng.randrange(1000),
        )
        patience = rng.choice([0.05, None, None, None])
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await bench.latents(engine, job, rng.choice(WORDS))
