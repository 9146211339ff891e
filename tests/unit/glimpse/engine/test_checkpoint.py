"""`glimpse.engine.checkpoint`: a job that goes on elsewhere makes the same picture."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from glimpse.engine import checkpoint, reference, steps
from glimpse.engine.host_copy import HostCopies
from glimpse.engine.job import Network
from glimpse.families.conditioning import Conditioning, EncodedImage, TextEmbedding
from tests.unit.glimpse.engine.oracle import SCHEDULERS, make_job, ours

CHANCE = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return CHANCE.standard_normal(shape, np.float32)


GIVEN = Conditioning(TextEmbedding(noise(77, 32), noise(16)), None)
IMAGE = EncodedImage(noise(4, 4, 8), np.abs(noise(4, 4, 8)), 0.13025)
MASK = (noise(1, 4, 8) > 0).astype(np.float32)
MASKED = dataclasses.replace(IMAGE, mask=MASK)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_job_resumed_after_any_step_ends_as_if_it_had_never_stopped(
    network: Network, scheduler: str
) -> None:
    job = make_job(scheduler=scheduler, num_inference_steps=5)
    whole = ours(network, job, GIVEN)
    for step, state in enumerate(whole.states, start=1):
        resumed = ours(network, job, GIVEN, resume_from=state)
        assert torch.equal(resumed.latents, whole.latents)
        assert len(resumed.denoised) == 5 - step
        for one, other in zip(resumed.denoised, whole.denoised[step:], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_image_to_image_goes_on_at_its_own_step(network: Network, scheduler: str) -> None:
    job = make_job(scheduler=scheduler, num_inference_steps=6, strength=0.5, guidance_scale=1.0)
    whole = ours(network, job, GIVEN, IMAGE)
    assert len(whole.states) == 3
    resumed = ours(network, job, GIVEN, IMAGE, resume_from=whole.states[1])
    assert torch.equal(resumed.latents, whole.latents)
    assert len(resumed.denoised) == 1


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_inpainting_goes_on_from_any_step_with_what_its_state_holds(
    network: Network, scheduler: str, strength: float
) -> None:
    job = make_job(scheduler=scheduler, num_inference_steps=5, strength=strength)
    whole = ours(network, job, GIVEN, MASKED)
    assert len(whole.states) == int(5 * strength)
    # What another encoder makes of the same picture; here it is far off, to be seen.
    again = dataclasses.replace(MASKED, mean=MASKED.mean + 1, mask=1 - MASK)
    assert not torch.allclose(ours(network, job, GIVEN, again).latents, whole.latents, atol=0.01)
    for step, state in enumerate(whole.states, start=1):
        for image in (MASKED, again):
            resumed = ours(network, job, GIVEN, image, resume_from=state)
            assert torch.equal(resumed.latents, whole.latents)
            assert len(resumed.denoised) == len(whole.states) - step
            for one, other in zip(resumed.denoised, whole.denoised[step:], strict=True):
                assert torch.equal(one, other)


@pytest.mark.parametrize(("before", "after"), [(IMAGE, MASKED), (MASKED, IMAGE)])
def test_the_state_of_a_job_with_a_mask_is_not_that_of_one_without(
    network: Network, before: EncodedImage, after: EncodedImage
) -> None:
    job = make_job(strength=0.5)
    state = ours(network, job, GIVEN, before).states[0]
    with pytest.raises(ValueError, match="one has a mask"):
        steps.begin(job, GIVEN, after, network, state)


def test_a_job_can_stop_again_and_again(network: Network) -> None:
    job = make_job(scheduler="unipc", num_inference_steps=5)
    running = steps.begin(job, GIVEN, None, network, None)
    for _ in range(5):
        reference.advance(running, network)
        running = steps.begin(
            job, GIVEN, None, network, checkpoint.take(running, HostCopies(network.device)).state()
        )
    assert running.done
    assert torch.equal(running.latents, ours(network, job, GIVEN).latents)


def test_a_snapshot_does_not_change_with_the_job(network: Network) -> None:
    running = steps.begin(make_job(scheduler="unipc"), GIVEN, None, network, None)
    for _ in range(2):
        reference.advance(running, network)
    copies = HostCopies(network.device)
    before = safetensors.torch.load(checkpoint.take(running, copies).state())
    snapshot = checkpoint.take(running, copies)
    tensors, _ = running.solver.history()
    for tensor in (running.latents, *tensors.values()):
        tensor.zero_()
    reference.advance(running, network)
    after = safetensors.torch.load(snapshot.state())
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_state_is_tensors_and_json(network: Network) -> None:
    state = ours(network, make_job(scheduler="dpmpp_2m"), GIVEN).states[1]
    tensors = safetensors.torch.load(state)
    assert {"latents", "generator"} < tensors.keys()
    header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])
    assert header["__metadata__"]["index"] == "2"
    assert b"prompt" not in state


@pytest.mark.parametrize(
    "change",
    [
        {"width": 32},
        {"height": 64},
        {"num_inference_steps": 5},
        {"seed": 4},
        {"scheduler": "ddim"},
        {"guidance_scale": 2.0},
    ],
)
def test_the_state_of_another_job_is_refused(network: Network, change: dict[str, Any]) -> None:
    job = make_job()
    state = ours(network, job, GIVEN).states[1]
    other = dataclasses.replace(job, **change)
    (name,) = change
    with pytest.raises(ValueError, match=f"another {name}"):
        steps.begin(other, GIVEN, None, network, state)


def test_the_same_job_may_have_another_id(network: Network) -> None:
    job = make_job()
    state = ours(network, job, GIVEN).states[1]
    again = dataclasses.replace(job, id="r2/0")
    assert steps.begin(again, GIVEN, None, network, state).index == 2
