"""The service's pictures are the unmodified diffusers pipeline's."""

import base64
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.integration.application import Application

PROMPT = "a windmill on green hills under a clear sky"
STEPS = 10


def generate(pipeline: Any, seed: int, guidance_scale: float) -> tuple[Any, list[torch.Tensor]]:
    """The pipeline's picture, and its scheduler's own denoised estimate after each step."""
    estimates: list[torch.Tensor] = []
    scheduler_step = pipeline.scheduler.step

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
        ).images[0]
    finally:
        del pipeline.scheduler.step
    return picture, estimates


def decoded(event: dict[str, Any]) -> Image.Image:
    data = base64.b64decode(event["image"]["url"].partition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> NDArray[np.int16]:
    return np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16))


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
    assert [preview["step"] for preview in previews] == [1, 5]
    for preview in previews:
        with torch.no_grad():
            pixels = tiny_vae.decode(estimates[preview["step"] - 1]).sample
        own = pipeline.image_processor.postprocess(pixels.detach(), output_type="pil")[0]
        buffer = io.BytesIO()
        own.save(buffer, "webp", quality=100)  # lossy: compared with a picture as lossy
        off = difference(decoded(preview), Image.open(buffer).convert("RGB"))
        assert off.mean() < 0.1 and off.max() <= 8
