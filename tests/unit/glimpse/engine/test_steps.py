"""`glimpse.engine.steps`: many jobs in one call make what each makes alone."""

from collections.abc import Iterator, Sequence

import pytest
import torch

from glimpse.engine import reference, steps
from glimpse.engine.job import Network, RunningJob
from glimpse.families.conditioning import Conditioning
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


def step(jobs: Sequence[RunningJob], network: Network) -> None:
    for job, prediction in zip(jobs, steps.predict(jobs, network), strict=True):
        steps.advance(job, prediction)


def alone(job: Job, conditioning: Conditioning, network: Network) -> torch.Tensor:
    running = steps.begin(job, conditioning, None, network, None)
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
    running = [steps.begin(job, conditioning, None, network, None) for job in jobs]
    while going := [job for job in running if not job.done]:
        step(going, network)
    for job, made in zip(jobs, running, strict=True):
        # A batch of another size rounds otherwise, and Euler's first sigma is about 4,096.
        tolerance = 2e-3 if job.scheduler.startswith("euler") else 1e-4
        assert (made.latents - alone(job, conditioning, network)).abs().max() < tolerance


def test_predicting_changes_nothing(network: SDXLNetwork, conditioning: Conditioning) -> None:
    running = steps.begin(make_job(), conditioning, None, network, None)
    before = running.latents.clone()
    (first,) = steps.predict([running], network)
    (second,) = steps.predict([running], network)
    assert running.index == 0
    assert torch.equal(first, second) and torch.equal(running.latents, before)
