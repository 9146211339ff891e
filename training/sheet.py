"""Contact sheets: what the model draws, for people to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from PIL import Image

from training.evaluate import GUIDANCE, draw, load_pipeline
from training.renderer import Pixels, render
from training.scenes import Scene

PROMPTS = (
    "a red lighthouse by the sea at sunset",
    "snowy mountains at dawn, a house on the left",
    "a windmill on green hills under a clear sky",
    "city at night with a full moon",
    "a white sailboat on the ocean by day",
    "a blue hot air balloon over the desert at sunset",
    "pine trees in the mountains in the snow",
    "a palm tree by the sea at night, crescent moon",
)
_GAP = 4


def grid(rows: list[Pixels]) -> Image.Image:
    """Pictures (N, H, W, 3), one row for each entry."""
    white = np.full_like(np.pad(rows[0][0], ((0, _GAP), (0, _GAP), (0, 0))), 255)
    lines = []
    for row in rows:
        cells = []
        for picture in row:
            cell = white.copy()
            cell[: picture.shape[0], : picture.shape[1]] = picture
            cells.append(cell)
        lines.append(np.concatenate(cells, axis=1))
    return Image.fromarray(np.concatenate(lines)[:-_GAP, :-_GAP])


def draw_sheets(model: Path, work_dir: Path) -> None:
    """Write work_dir/sheet.png (4, 8, 20 steps; image to image) and model/samples.png."""
    pipeline = load_pipeline(model)
    by_steps = {steps: draw(pipeline, PROMPTS, steps, GUIDANCE) for steps in (4, 8, 20)}
    crude = render(Scene("day", "hills", "house", "clear", "red", "left"), seed=1)
    from_image = StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline)
    changed = from_image(
        ["a red house on green hills at night"] * 2 + ["a red house in the snow at dawn"] * 2
        + ["a windmill in the desert at sunset"] * 3,
        image=[Image.fromarray(crude)] * 7,
        strength=0.6,
        num_inference_steps=20,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator().manual_seed(i) for i in range(7)],
        output_type="np",
    ).images  # fmt: skip
    image_row = np.concatenate([crude[None], (changed * 255).round().astype(np.uint8)])
    grid([*by_steps.values(), image_row]).save(work_dir / "sheet.png")
    grid([by_steps[8][:4], by_steps[8][4:]]).save(model / "samples.png", optimize=True)
