"""Diffusers' own pipeline, and a decoder of previews."""

from typing import Any

import pytest
import torch

from config.settings import ROOT

MODEL = ROOT / "models" / "miniature"


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """What the pictures are held against: the unmodified pipeline of the built-in model."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(MODEL, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def tiny_vae() -> Any:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny.from_pretrained(MODEL / "vae_tiny", dtype=torch.float32)
