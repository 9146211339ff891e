"""The service's pictures are the unmodified diffusers pipeline's."""

import base64
import functools
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionXLInpaintPipeline
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.integration.application import Application

PROMPT = "a windmill on green hills under a clear sky"
STEPS = 10


def generate(
    pipeline: Any, seed: int, guidance_scale: float, **options: Any
) -> tuple[Any, list[torch.Tensor]]:
    """The pipeline's picture, and its scheduler's own denoised estimate after each step."""
    estimates: list[torch.Tensor] = []
    scheduler_step = pipeline.scheduler.step

    @functools.wraps(scheduler_step)  # the pipeline looks at its parameters
    def step(*args: Any, **kwargs: Any) -> Any:
        stepped = scheduler_step(*args, **kwargs)
        estimates.append(stepped[1])
        return stepped

    pipeline.scheduler.step = step
    try:
        picture = pipeline(
            PROMPT,
            num_inference_steps=STEPS,
            guidance_scale=guidance_scale,
            generator=torch.Generator().manual_seed(seed),
            **options,
        ).images[0]
    finally:
        del pipeline.scheduler.step
    return picture, estimates


def decoded(event: dict[str, Any]) -> Image.Image:
    data = base64.b64decode(event["image"]["url"].partition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> NDArray[np.int16]:
    return np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16))


def check_previews(
    previews: list[dict[str, Any]], estimates: list[torch.Tensor], pipeline: Any, tiny_vae: Any
) -> None:
    assert [preview["step"] for preview in previews] == [1, 5]
    for preview in previews:
        with torch.no_grad():
            pixels = tiny_vae.decode(estimates[preview["step"] - 1]).sample
        own = pipeline.image_processor.postprocess(pixels.detach(), output_type="pil")[0]
        buffer = io.BytesIO()
        own.save(buffer, "webp", quality=100)  # lossy: compared with a picture as lossy
        off = difference(decoded(preview), Image.open(buffer).convert("RGB"))
        assert off.mean() < 0.1 and off.max() <= 8


@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
@pytest.mark.parametrize("seed", [0, 7, 4_294_967_295])
def test_the_picture_and_its_previews(
    application: Application, pipeline: Any, tiny_vae: Any, seed: int, guidance_scale: float
) -> None:
    check_picture_and_previews(application, pipeline, tiny_vae, seed, guidance_scale)


def check_picture_and_previews(
    application: Application, pipeline: Any, tiny_vae: Any, seed: int, guidance_scale: float
) -> None:
    answer = httpx.post(
        f"{application.url}/stream",
        json={
            "prompt": PROMPT,
            "num_inference_steps": STEPS,
            "guidance_scale": guidance_scale,
            "seed": seed,
            "output_format": "png",
            "preview_format": "webp",
            "preview_quality": 100,
        },
        timeout=60,
    )
    lines = answer.text.splitlines()
    *previews, final = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    picture, estimates = generate(pipeline, seed, guidance_scale)
    assert difference(decoded(final), picture).max() <= 1
    check_previews(previews, estimates, pipeline, tiny_vae)


def data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("scheduler", ["euler", "lcm"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_and_its_previews(
    application: Application, pipeline: Any, tiny_vae: Any, strength: float, scheduler: str
) -> None:
    original, _ = generate(pipeline, 1, 4.5)
    mask = Image.new("L", original.size)
    ImageDraw.Draw(mask).ellipse((20, 20, 90, 100), fill="white")
    repainted = (np.asarray(mask) > 127).reshape(16, 8, 16, 8).any(axis=(1, 3))
    cells = Image.fromarray(np.kron(repainted, np.full((8, 8), 255)).astype(np.uint8))
    answer = httpx.post(
        f"{application.url}/stream",
        json={
            "prompt": PROMPT,
            "image_url": data_uri(original),
            "mask_url": data_uri(mask),
            "strength": strength,
            "scheduler": scheduler,
            "num_inference_steps": STEPS,
            "guidance_scale": 4.5,
            "seed": 7,
            "output_format": "png",
            "preview_format": "webp",
            "preview_quality": 100,
        },
        timeout=60,
    )
    lines = answer.text.splitlines()
    *previews, final = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    inpaint = StableDiffusionXLInpaintPipeline.from_pipe(pipeline)
    inpaint.set_progress_bar_config(disable=True)
    if scheduler == "lcm":
        inpaint.scheduler = LCMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    last_latents = torch.empty(0)

    def keep(pipeline: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        nonlocal last_latents
        last_latents = given["latents"]
        return given

    picture, estimates = generate(
        inpaint, 7, 4.5, image=original, mask_image=cells, strength=strength,
        width=original.width, height=original.height, callback_on_step_end=keep,
    )  # fmt: skip
    assert final["steps"] == int(STEPS * strength)
    assert difference(decoded(final), picture).max() <= 1
    # The pipeline ends with the clean original where nothing is repainted.
    shown = [
        torch.where(torch.from_numpy(repainted), estimate, last_latents) for estimate in estimates
    ]
    check_previews(previews, shown, pipeline, tiny_vae)
