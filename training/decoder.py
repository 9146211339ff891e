"""Decoders on fixed latents: the autoencoder's own made sharper, and the tiny one for previews."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.data import TRAIN, load_pixels
from training.latents import load_latents
from training.loop import Average, Checkpoints, Progress, device, rate_at, seed_step
from training.muon import Muon
from training.ranks import clip_gradients
from training.vae import picture_loss, to_tensor

BATCH = 4
SHARPEN_STEPS = 2_800
SHARPEN_RATE = 6e-4
ADVERSARY_RATE = 8e-4
ADVERSARY_WEIGHT = 0.015
# Large errors sit at edges, whose places matter more than texture.
SQUARE_WEIGHT = 3.0
# The adversary first learns what real pictures are.
ADVERSARY_FROM = 50
TINY_WIDTH = 16
TINY_STEPS = 7_000
TINY_RATE = 3e-3
# The tiny decoder is shown unfinished estimates, not only clean latents.
TINY_NOISE = 0.03


class Adversary(nn.Module):
    """Says for every patch of a picture (B, 3, H, W) how real it looks (hinge GAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(3, 32, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(32, 64, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(64, 96, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(96, 1, 3, padding=1)),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.layers(pictures)
        return scores


class _Pairs:
    """Pictures and draws of their latents."""

    def __init__(self, work_dir: Path) -> None:
        self._pixels = load_pixels(TRAIN, work_dir / "data")
        self._latents = load_latents(TRAIN, work_dir)

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        rows = np.random.default_rng(seed).integers(len(self._latents.mean), size=BATCH)
        return to_tensor(self._pixels[rows]).to(device()), self._latents.sample(rows)


def sharpen_decoder(work_dir: Path, steps: int = SHARPEN_STEPS) -> None:
    """Train the autoencoder's decoder on, with an adversary; leaves work_dir/vae-sharp."""
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(work_dir / "vae").to(device())
    adversary = Adversary().to(device())
    # The encoder and quant_conv stay as they are: the UNet is trained on their latents.
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    muon, average = Muon(vae, by_adam=("conv_in", "conv_out", "quant_conv")), Average(vae, 0.995)
    adam = torch.optim.AdamW(adversary.parameters(), ADVERSARY_RATE, betas=(0.5, 0.99))
    parts = {"vae": vae, "adversary": adversary, "muon": muon, "adam": adam, "average": average}
    checkpoints = Checkpoints(work_dir / "sharpen.pt", parts)
    progress, pairs = Progress("sharpen", steps), _Pairs(work_dir)
    for step in checkpoints.steps(steps):
        real, latents = pairs.draw(seed_step("sharpen", step))
        with torch.autocast(real.device.type, torch.bfloat16):
            made = vae.decode(latents).sample.float()
        judged = _judge_pair(adversary, real, made.detach())
        adam.zero_grad()
        judged.backward()  # type: ignore[no-untyped-call]
        adam.step()
        picture = picture_loss(made, real)
        loss = picture + SQUARE_WEIGHT * F.mse_loss(made, real)
        if step >= ADVERSARY_FROM:
            with torch.autocast(real.device.type, torch.bfloat16):
                loss = loss - ADVERSARY_WEIGHT * adversary(made).float().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(vae, 1.0)
        muon.step(rate_at(step, steps, SHARPEN_RATE))
        muon.zero_grad()
        average.update(step)
        progress.add(step, picture=picture, adversary=judged)
    average.copy_to(vae)
    vae.save_pretrained(work_dir / "vae-sharp")


def _judge_pair(adversary: Adversary, real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss of the adversary."""
    with torch.autocast(real.device.type, torch.bfloat16):
        scores = adversary(torch.cat([real, made])).float()
    on_real, on_made = scores.chunk(2)
    return F.relu(1 - on_real).mean() + F.relu(1 + on_made).mean()


def new_tiny() -> AutoencoderTiny:
    """An untrained tiny autoencoder on the same latents; its decoder is what previews use.

    Depth is put where pixels are few: it costs next to nothing there.
    """
    return AutoencoderTiny(
        encoder_block_out_channels=(TINY_WIDTH,) * 4,
        decoder_block_out_channels=(TINY_WIDTH,) * 4,
        num_encoder_blocks=(0, 1, 1, 2),
        num_decoder_blocks=(8, 5, 1, 0),
    )


def train_tiny(work_dir: Path, steps: int = TINY_STEPS) -> None:
    """Train the tiny autoencoder, both halves at once; leaves work_dir/vae_tiny."""
    torch.manual_seed(0)
    tiny = new_tiny().to(device())
    muon, average = Muon(tiny), Average(tiny, 0.995)
    parts = {"tiny": tiny, "muon": muon, "average": average}
    checkpoints = Checkpoints(work_dir / "tiny.pt", parts)
    progress, pairs = Progress("tiny", steps), _Pairs(work_dir)
    for step in checkpoints.steps(steps):
        real, latents = pairs.draw(seed_step("tiny", step))
        with torch.autocast(real.device.type, torch.bfloat16):
            made = tiny.decode(latents + TINY_NOISE * torch.randn_like(latents)).sample.float()
            guess = tiny.encode(real).latents.float()
        picture = picture_loss(made, real) + SQUARE_WEIGHT * F.mse_loss(made, real)
        latent = F.mse_loss(guess, latents) + F.l1_loss(guess, latents)
        (picture + latent).backward()  # type: ignore[no-untyped-call]
        clip_gradients(tiny, 1.0)
        muon.step(rate_at(step, steps, TINY_RATE))
        muon.zero_grad()
        average.update(step)
        progress.add(step, picture=picture, latent=latent)
    average.copy_to(tiny)
    tiny.save_pretrained(work_dir / "vae_tiny")
