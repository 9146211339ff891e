"""`glimpse.engine.reference` against diffusers' own pipelines: equal to the bit."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline

from glimpse.decoders import FullVAE
from glimpse.engine import reference, steps
from glimpse.families.conditioning import Conditioning
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder
from tests.unit.glimpse.engine.oracle import (
    PROMPT,
    SCHEDULERS,
    SDXL_SCHEDULER,
    Made,
    chance_mask,
    chance_pixels,
    make_job,
    ours,
    theirs,
)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def conditioning(text_encoder: SDXLTextEncoder, negative: str | None) -> Conditioning:
    return Conditioning(
        prompt=text_encoder.encode([PROMPT])[0],
        negative=None if negative is None else text_encoder.encode([negative])[0],
    )


def assert_equal(one: Made, other: Made) -> None:
    assert torch.equal(one.latents, other.latents)
    assert len(one.denoised) == len(other.denoised)
    for mine, its in zip(one.denoised, other.denoised, strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    ("steps", "guidance_scale", "negative", "epsilon"),
    [
        (1, 4.5, None, False),
        (4, 1.0, None, False),
        (6, 4.5, "fog, rain", False),
        (5, 4.5, None, True),
    ],
)
def test_text_to_image_is_that_of_the_pipeline(
    network: SDXLNetwork,
    text_encoder: SDXLTextEncoder,
    pipeline: Any,
    monkeypatch: pytest.MonkeyPatch,
    scheduler: str,
    steps: int,
    guidance_scale: float,
    negative: str | None,
    epsilon: bool,
) -> None:
    if epsilon:
        monkeypatch.setattr(network, "scheduler_config", SDXL_SCHEDULER)
    job = make_job(scheduler=scheduler, num_inference_steps=steps, guidance_scale=guidance_scale)
    size = {"width": job.width, "height": job.height}
    assert_equal(
        ours(network, job, conditioning(text_encoder, negative)),
        theirs(pipeline, job, negative, network.scheduler_config, **size),
    )


@pytest.fixture(scope="module")
def image_pipeline(pipeline: Any) -> Any:
    image_pipeline = StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline)
    image_pipeline.set_progress_bar_config(disable=True)
    return image_pipeline


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(("steps", "strength"), [(8, 0.5), (7, 0.3), (3, 1.0)])
def test_image_to_image_is_that_of_the_pipeline(
    network: SDXLNetwork,
    text_encoder: SDXLTextEncoder,
    full_vae: FullVAE,
    image_pipeline: Any,
    scheduler: str,
    steps: int,
    strength: float,
) -> None:
    job = make_job(scheduler=scheduler, num_inference_steps=steps, strength=strength)
    picture, pixels = chance_pixels(job)
    image = full_vae.posterior(pixels, None)
    made = ours(network, job, conditioning(text_encoder, None), image)
    assert len(made.denoised) == int(steps * strength)
    assert_equal(
        made,
        theirs(
            image_pipeline,
            job,
            None,
            network.scheduler_config,
            image=picture,
            strength=strength,
        ),
    )


@pytest.fixture(scope="module")
def inpaint_pipeline(pipeline: Any) -> Any:
    inpaint_pipeline = StableDiffusionXLInpaintPipeline.from_pipe(pipeline)
    inpaint_pipeline.set_progress_bar_config(disable=True)
    return inpaint_pipeline


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(("guidance_scale", "epsilon"), [(1.0, True), (4.5, False)])
@pytest.mark.parametrize(("strength", "run"), [(0.3, 2), (0.6, 4), (1.0, 7)])
def test_inpainting_is_that_of_the_pipeline_and_its_previews_keep_what_is_kept(
    network: SDXLNetwork,
    text_encoder: SDXLTextEncoder,
    full_vae: FullVAE,
    inpaint_pipeline: Any,
    monkeypatch: pytest.MonkeyPatch,
    scheduler: str,
    guidance_scale: float,
    epsilon: bool,
    strength: float,
    run: int,
) -> None:
    if epsilon:
        monkeypatch.setattr(network, "scheduler_config", SDXL_SCHEDULER)
    job = make_job(
        scheduler=scheduler,
        num_inference_steps=7,
        strength=strength,
        guidance_scale=guidance_scale,
    )
    (picture, pixels), (mask, cells) = chance_pixels(job), chance_mask(job)
    image = full_vae.posterior(pixels, cells)
    assert image.mask is not None and {0, 1} == set(image.mask.flat)
    made = ours(network, job, conditioning(text_encoder, "fog"), image)
    assert len(made.denoised) == run
    its = theirs(
        inpaint_pipeline,
        job,
        "fog",
        network.scheduler_config,
        image=picture,
        mask_image=mask,
        strength=strength,
        width=job.width,
        height=job.height,
    )
    # In the end the pipeline has put the clean original where the mask is black: so do all our
    # estimates, and elsewhere they are its scheduler's.
    repainted = torch.from_numpy(image.mask)[None] > 0
    its.denoised = [torch.where(repainted, each, its.latents) for each in its.denoised]
    assert_equal(made, its)


def test_jobs_that_take_turns_do_not_touch_each_other(
    network: SDXLNetwork, text_encoder: SDXLTextEncoder
) -> None:
    given = conditioning(text_encoder, None)
    jobs = [
        make_job(scheduler=name, seed=seed, num_inference_steps=3)
        for seed, name in enumerate(SCHEDULERS)
    ]
    running = [steps.begin(job, given, None, network, None) for job in jobs]
    for _ in range(3):
        for each in running:
            reference.advance(each, network)
    for job, each in zip(jobs, running, strict=True):
        assert each.done
        assert torch.equal(each.latents, ours(network, job, given).latents)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_last_estimate_is_the_picture(
    network: SDXLNetwork, text_encoder: SDXLTextEncoder, scheduler: str
) -> None:
    made = ours(network, make_job(scheduler=scheduler), conditioning(text_encoder, None))
    assert torch.allclose(made.denoised[-1], made.latents, atol=1e-4)
    assert not torch.allclose(made.denoised[0], made.latents, atol=1e-4)
