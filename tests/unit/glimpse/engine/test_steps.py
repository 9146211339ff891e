"""`glimpse.engine.steps`: many jobs in one call make what each makes alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from glimpse.engine import reference, steps
from glimpse.engine.job import Network, RunningJob
from glimpse.families.conditioning import Conditioning, EncodedImage
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder
from glimpse.ports import Job
from tests.unit.glimpse.engine.oracle import PROMPT, SCHEDULERS, make_job


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def conditioning(text_encoder: SDXLTextEncoder) -> Conditioning:
    with torch.no_grad():
        prompt, negative = text_encoder.encode([PROMPT, "fog, rain"])
    return Conditioning(prompt, negative)


CHANCE = np.random.default_rng(1)
IMAGE = EncodedImage(
    CHANCE.standard_normal((4, 4, 8), np.float32),
    CHANCE.random((4, 4, 8), np.float32),
    0.13025,
    mask=CHANCE.integers(0, 2, (1, 4, 8)).astype(np.float32),
)


def step(jobs: Sequence[RunningJob], network: Network) -> list[torch.Tensor]:
    predictions = steps.predict(jobs, network)
    return [steps.advance(job, each) for job, each in zip(jobs, predictions, strict=True)]


def alone(
    job: Job, conditioning: Conditioning, network: Network, image: EncodedImage | None = None
) -> torch.Tensor:
    running = steps.begin(job, conditioning, image, network, None)
    while not running.done:
        reference.advance(running, network)
    return running.latents


@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_job_that_has_the_call_to_itself_equals_the_reference(
    network: SDXLNetwork, conditioning: Conditioning, scheduler: str, guidance_scale: float
) -> None:
    job = make_job(scheduler=scheduler, guidance_scale=guidance_scale)
    running = steps.begin(job, conditioning, None, network, None)
    while not running.done:
        step([running], network)
    assert torch.equal(running.latents, alone(job, conditioning, network))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_inpainting_equals_the_reference_in_its_estimates_too(
    network: SDXLNetwork, conditioning: Conditioning, scheduler: str
) -> None:
    job = make_job(scheduler=scheduler, strength=0.75)
    one, other = (steps.begin(job, conditioning, IMAGE, network, None) for _ in range(2))
    while not one.done:
        (denoised,) = step([one], network)
        assert torch.equal(denoised, reference.advance(other, network))
        assert torch.equal(one.latents, other.latents)
    assert other.done


def test_jobs_that_differ_in_everything_but_size_share_a_call(
    network: SDXLNetwork, conditioning: Conditioning
) -> None:
    jobs = [
        make_job(
            scheduler=scheduler,
            seed=number,
            num_inference_steps=2 + number,
            guidance_scale=[1.0, 3.0, 7.5][number % 3],
        )
        for number, scheduler in enumerate(SCHEDULERS)
    ]
    images = [None, IMAGE, None, IMAGE, IMAGE, None]
    running = [
        steps.begin(job, conditioning, image, network, None)
        for job, image in zip(jobs, images, strict=True)
    ]
    while going := [job for job in running if not job.done]:
        step(going, network)
    for job, image, made in zip(jobs, images, running, strict=True):
        # A batch of another size rounds otherwise, and Euler's first sigma is about 4,096.
        tolerance = 2e-3 if job.scheduler.startswith("euler") else 1e-4
        expected = alone(job, conditioning, network, image)
        assert (made.latents - expected).abs().max() < tolerance


def test_predicting_changes_nothing(network: SDXLNetwork, conditioning: Conditioning) -> None:
    running = steps.begin(make_job(), conditioning, None, network, None)
    before = running.latents.clone()
    (first,) = steps.predict([running], network)
    (second,) = steps.predict([running], network)
    assert running.index == 0
    assert torch.equal(first, second) and torch.equal(running.latents, before)
