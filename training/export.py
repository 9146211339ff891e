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

from training.data import TRAIN, load_pixels
from training.latent_rgb import PICTURES, write_latent_rgb
from training.text import load_encoders
from training.unet import new_scheduler


def export(work_dir: Path, target: Path) -> None:
    """Write what StableDiffusionXLPipeline.from_pretrained(target) loads, and beside it what makes
    previews: target/vae_tiny and target/latent_rgb.json.
    """
    text = load_encoders(work_dir)
    vae = AutoencoderKL.from_pretrained(work_dir / "vae-sharp", use_safetensors=True)
    target.mkdir(parents=True, exist_ok=True)
    pixels = load_pixels(TRAIN, work_dir / "data")[:PICTURES]
    write_latent_rgb(vae, pixels, target / "latent_rgb.json")
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text.first,
        text_encoder_2=text.second,
        tokenizer=text.tokenizer,
        tokenizer_2=text.tokenizer,
        unet=UNet2DConditionModel.from_pretrained(work_dir / "unet", use_safetensors=True),
        scheduler=new_scheduler(),
        force_zeros_for_empty_prompt=True,
    )
    pipeline.to(torch.float16).save_pretrained(target)
    for folder in ("text_encoder", "text_encoder_2"):
        # transformers loads what the config says if nobody names a dtype, diffusers float32.
        _edit_config(target / folder, dtype="float32")
    for folder in ("unet", "vae"):
        # Where the training kept its parts is nobody's business.
        _edit_config(target / folder, _name_or_path=None)
    tiny = AutoencoderTiny.from_pretrained(work_dir / "vae_tiny", use_safetensors=True)
    tiny.to(torch.float16).save_pretrained(target / "vae_tiny")
    # diffusers writes block_out_channels, and then warns that it does not expect it.
    _edit_config(target / "vae_tiny", block_out_channels=None, _name_or_path=None)


def _edit_config(folder: Path, **entries: str | None) -> None:
    """Set entries of folder/config.json; None takes one out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **entries}
    kept = {name: value for name, value in config.items() if name not in entries or entries[name]}
    path.write_text(json.dumps(kept, indent=2) + "\n")


def megabytes(folder: Path) -> float:
    """Size of everything in a folder, in 10^6 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
