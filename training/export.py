"""Puts the trained parts together as a diffusers folder in half precision."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from training.text import load_encoders
from training.unet import new_scheduler


def export(work_dir: Path, target: Path) -> None:
    """Write what StableDiffusionXLPipeline.from_pretrained(target) loads, and target/vae_tiny."""
    text = load_encoders(work_dir)
    pipeline = StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(work_dir / "vae-sharp"),
        text_encoder=text.first,
        text_encoder_2=text.second,
        tokenizer=text.tokenizer,
        tokenizer_2=text.tokenizer,
        unet=UNet2DConditionModel.from_pretrained(work_dir / "unet"),
        scheduler=new_scheduler(),
        force_zeros_for_empty_prompt=True,
    )
    pipeline.to(torch.float16).save_pretrained(target)
    for folder in ("text_encoder", "text_encoder_2"):
        _load_in_single_precision(target / folder / "config.json")
    tiny = AutoencoderTiny.from_pretrained(work_dir / "vae_tiny")
    tiny.to(torch.float16).save_pretrained(target / "vae_tiny")


def _load_in_single_precision(config: Path) -> None:
    """Have transformers load as diffusers does if nobody names a dtype: it follows the config."""
    text = json.loads(config.read_text())
    config.write_text(json.dumps({**text, "dtype": "float32"}, indent=2) + "\n")


def megabytes(folder: Path) -> float:
    """Size of everything in a folder, in 10^6 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
