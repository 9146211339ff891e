"""The linear map from latents to colours by which rough previews are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from training.renderer import Pixels
from training.vae import to_tensor

# 256 latents each, for the five numbers of a colour.
PICTURES = 512
_BATCH = 32


def write_latent_rgb(vae: AutoencoderKL, pixels: Pixels, path: Path) -> None:
    """Fit the map on pictures (N, H, W, 3) and write it as config.settings.LatentRGBFile."""
    factors, bias = fit(encode(vae, pixels), pixels)
    source = f"training/latent_rgb.py, least squares on {len(pixels)} rendered pictures"
    numbers = {"factors": factors.round(4).tolist(), "bias": bias.round(4).tolist()}
    path.write_text(json.dumps({"source": source, **numbers}) + "\n")


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Pixels) -> NDArray[Any]:
    """Posterior means of pictures (N, H, W, 3), scaled as the UNet sees them: (N, C, h, w)."""
    batches = (to_tensor(np.array(pixels[i : i + _BATCH])) for i in range(0, len(pixels), _BATCH))
    means = [vae.encode(batch.to(vae.dtype)).latent_dist.mode() for batch in batches]
    scaled: Tensor = torch.cat(means) * vae.config.scaling_factor
    return scaled.float().numpy()


def fit(latents: NDArray[Any], pixels: Pixels) -> tuple[NDArray[Any], NDArray[Any]]:
    """Factors (C, 3) and bias (3): least squares from latents (N, C, h, w) to the mean colours, in
    -1..1, of the pixels (N, H, W, 3) that each stands for.
    """
    count, channels, height, width = latents.shape
    blocks = pixels.reshape(count, height, pixels.shape[1] // height, width, -1, 3)
    colours = blocks.mean(axis=(2, 4)).reshape(-1, 3) / 127.5 - 1
    known = latents.transpose(0, 2, 3, 1).reshape(-1, channels)
    known = np.column_stack([known, np.ones(len(known))])
    solution = np.linalg.lstsq(known, colours, rcond=None)[0]
    return solution[:channels], solution[channels]
