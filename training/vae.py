"""The autoencoder (AutoencoderKL): trained whole, then its decoder alone for sharpness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.data import TRAIN, VALIDATION, load_pixels
from training.loop import Average, Checkpoints, Progress, device, rate_at, seed_step
from training.muon import Muon
from training.ranks import average_gradients, clip_gradients
from training.renderer import Pixels

CHANNELS = (16, 32, 56, 80)
CROP = 64
# Over all ranks.
CROP_BATCH = 12
FULL_BATCH = 4
STEPS = 7_000
# The last part runs on whole pictures, whose edges and long gradients crops do not show.
CROP_PART = 0.85
RATE = 3e-3
KL_WEIGHT = 5e-4
EDGE_WEIGHT = 0.5


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder: 3 x H x W in -1..1 to 4 x H/8 x W/8."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=1.0,
        force_upcast=False,
    )


def to_tensor(pixels: Pixels) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def draw_batch(pixels: Pixels, count: int, crop: int, rng: np.random.Generator) -> Tensor:
    """`count` random pictures, or crops of them, half of them mirrored: (B, 3, crop, crop)."""
    height, width = pixels.shape[1:3]
    pieces = np.empty((count, crop, crop, 3), np.uint8)
    for row, index in enumerate(rng.integers(len(pixels), size=count)):
        top, left = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
        piece = pixels[index, top : top + crop, left : left + crop]
        pieces[row] = piece[:, ::-1] if rng.random() < 0.5 else piece
    return to_tensor(pieces).to(device())


def picture_loss(made: Tensor, real: Tensor) -> Tensor:
    """L1 + MSE + L1 of the differences between neighbouring pixels, which keeps edges sharp."""
    error = made - real
    return error.abs().mean() + error.square().mean() + EDGE_WEIGHT * edge_loss(made, real)


def edge_loss(made: Tensor, real: Tensor) -> Tensor:
    """L1 of the differences between neighbouring pixels, summed over both directions."""
    error = made - real
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def psnr(made: Tensor, real: Tensor) -> float:
    """Mean over pictures (B, 3, H, W) in -1..1 of the peak signal-to-noise ratio, in dB."""
    error = (made.clamp(-1, 1) - real).square().mean(dim=(1, 2, 3))
    return float((10 * torch.log10(4.0 / error)).mean())


def train_vae(rank: int, ranks: int, work_dir: Path, steps: int = STEPS) -> None:
    """Train encoder and decoder together; leaves the averaged weights in work_dir/vae."""
    torch.manual_seed(0)
    vae = new_vae().to(device())
    muon, average = Muon(vae, by_adam=("conv_in", "conv_out", "quant_conv")), Average(vae, 0.995)
    parts = {"vae": vae, "muon": muon, "average": average}
    checkpoints = Checkpoints(work_dir / "vae.pt", parts, writes=rank == 0)
    progress = Progress("vae", steps, silent=rank != 0)
    pixels = load_pixels(TRAIN, work_dir / "data")
    for step in checkpoints.steps(steps):
        rng = np.random.default_rng(seed_step("vae", step, rank))
        if step < CROP_PART * steps:
            real = draw_batch(pixels, CROP_BATCH // ranks, CROP, rng)
        else:
            real = draw_batch(pixels, FULL_BATCH // ranks, pixels.shape[1], rng)
        with torch.autocast(real.device.type, torch.bfloat16):
            posterior = vae.encode(real).latent_dist
            made = vae.decode(posterior.sample()).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        picture = picture_loss(made.float(), real)
        (picture + KL_WEIGHT * kl).backward()
        average_gradients(vae, ranks)
        clip_gradients(vae, 1.0)
        muon.step(rate_at(step, steps, RATE))
        muon.zero_grad()
        average.update(step)
        progress.add(step, picture=picture, kl=kl)
        if rank == 0 and (step + 1) % 1000 == 0:
            print(f"vae {step + 1}: {validate(vae, average, work_dir):.2f} dB", flush=True)
    if rank == 0:
        average.copy_to(vae)
        standardise(vae, work_dir)
        vae.save_pretrained(work_dir / "vae")


@torch.no_grad()
def validate(vae: AutoencoderKL, average: Average, work_dir: Path) -> float:
    """PSNR of the averaged weights on 64 validation pictures, in dB."""
    copy = new_vae().to(device())
    average.copy_to(copy)
    real = to_tensor(np.array(load_pixels(VALIDATION, work_dir / "data")[:64])).to(device())
    return psnr(copy.decode(copy.encode(real).latent_dist.mode()).sample, real)


@torch.no_grad()
def standardise(vae: AutoencoderKL, work_dir: Path) -> None:
    """Build mean 0 and deviation 1 of each latent channel into the convolutions around it.

    So scaling_factor stays 1.0 and the tiny autoencoder needs no scaling of its own.
    """
    pixels = load_pixels(TRAIN, work_dir / "data")
    batches = (to_tensor(np.array(pixels[i : i + 64])).to(device()) for i in range(0, 1024, 64))
    latents = torch.cat([vae.encode(batch).latent_dist.mode() for batch in batches])
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    out, back = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    out.weight[:channels] /= std[:, None, None, None]
    out.bias[:channels] = (out.bias[:channels] - mean) / std
    # The second half of the channels is log variance.
    out.bias[channels:] -= 2 * std.log()
    back.bias += (back.weight[:, :, 0, 0] * mean).sum(dim=1)
    back.weight *= std[None, :, None, None]
