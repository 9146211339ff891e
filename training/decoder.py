"""Decoders on fixed latents: the autoencoder's own made sharper, and the tiny one for previews."""

from __future__ import annotations

from functools import partial
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
from training.ranks import clip_gradients, run_beside
from training.vae import edge_loss, to_tensor

BATCH = 4
SHARPEN_STEPS = 3_000
SHARPEN_RATE = 6e-4
ADVERSARY_RATE = 8e-4
ADVERSARY_WEIGHT = 0.03
EDGE_WEIGHT = 0.25
# The adversary first learns what real pictures are.
ADVERSARY_FROM = 50
TINY_WIDTH = 16
TINY_STEPS = 28_000
TINY_RATE = 3e-3
# The tiny decoder is shown unfinished estimates, not only clean latents.
TINY_NOISE = 0.03
# The encoder learns much faster than the decoder.
TINY_ENCODER_EVERY = 4


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


def fidelity_loss(made: Tensor, real: Tensor) -> Tensor:
    """What PSNR measures, the logarithm of each picture's squared error, and edges."""
    squares = (made - real).square().mean(dim=(1, 2, 3))
    # The small number keeps an easy picture, a plain night, from outweighing all others.
    return 0.05 * (squares + 1e-5).log().mean() + EDGE_WEIGHT * edge_loss(made, real)


def train_decoders(
    work_dir: Path,
    ranks: int,
    sharpen_steps: int = SHARPEN_STEPS,
    tiny_steps: int = TINY_STEPS,
) -> None:
    """Both decoders, each in a process of its own where there are two; skips one that is done."""
    works = {
        work_dir / "vae-sharp": partial(sharpen_decoder, work_dir, sharpen_steps),
        work_dir / "vae_tiny": partial(train_tiny, work_dir, tiny_steps),
    }
    run_beside([work for leaves, work in works.items() if not leaves.exists()], ranks)


def sharpen_decoder(work_dir: Path, steps: int = SHARPEN_STEPS) -> None:
    """Train the autoencoder's decoder on, with an adversary; leaves work_dir/vae-sharp."""
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(work_dir / "vae", use_safetensors=True).to(device())
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
        loss = picture = fidelity_loss(made, real)
        if step >= ADVERSARY_FROM:
            with torch.autocast(real.device.type, torch.bfloat16):
                loss = loss - ADVERSARY_WEIGHT * adversary(made).float().mean()
        _descend(loss, vae, muon, rate_at(step, steps, SHARPEN_RATE))
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
        num_decoder_blocks=(6, 5, 2, 0),
    )


def train_tiny(work_dir: Path, steps: int = TINY_STEPS) -> None:
    """Train the tiny autoencoder, each half by itself; leaves work_dir/vae_tiny."""
    torch.manual_seed(0)
    tiny = new_tiny().to(device())
    average = Average(tiny, 0.995)
    decoder_muon, encoder_muon = Muon(tiny.decoder), Muon(tiny.encoder)
    parts = {
        "tiny": tiny,
        "decoder_muon": decoder_muon,
        "encoder_muon": encoder_muon,
        "average": average,
    }
    checkpoints = Checkpoints(work_dir / "tiny.pt", parts)
    pairs = _Pairs(work_dir)
    progress = Progress("tiny decoder", steps, every=500)
    encoder_progress = Progress("tiny encoder", steps // TINY_ENCODER_EVERY, every=500)
    for step in checkpoints.steps(steps):
        rate = rate_at(step, steps, TINY_RATE)
        real, latents = pairs.draw(seed_step("tiny", step))
        with torch.autocast(real.device.type, torch.bfloat16):
            made = tiny.decode(latents + TINY_NOISE * torch.randn_like(latents)).sample.float()
        picture = fidelity_loss(made, real)
        _descend(picture, tiny.decoder, decoder_muon, rate)
        progress.add(step, picture=picture)
        if step % TINY_ENCODER_EVERY == 0:
            with torch.autocast(real.device.type, torch.bfloat16):
                guess = tiny.encode(real).latents.float()
            latent = F.mse_loss(guess, latents) + F.l1_loss(guess, latents)
            _descend(latent, tiny.encoder, encoder_muon, rate)
            encoder_progress.add(step // TINY_ENCODER_EVERY, latent=latent)
        average.update(step)
    average.copy_to(tiny)
    tiny.save_pretrained(work_dir / "vae_tiny")


def _descend(loss: Tensor, model: nn.Module, muon: Muon, rate: float) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    clip_gradients(model, 1.0)
    muon.step(rate)
    muon.zero_grad()
