"""The autoencoder's latents of a data set, kept as mean and deviation to draw from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from training.data import DataSet, load_pixels
from training.loop import device
from training.vae import to_tensor

# More than the UNet comes to see often; the autoencoder itself has seen more.
MOST = 16_000
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Latents:
    """Posterior of every picture: mean and standard deviation, float16 (N, 4, h, w)."""

    mean: Tensor
    std: Tensor

    def sample(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """One draw for each of the rows, float32 (B, 4, h, w), on the training device."""
        index = torch.from_numpy(rows)
        mean, std = self.mean[index].to(device()).float(), self.std[index].to(device()).float()
        return mean + std * torch.randn_like(mean)


def load_latents(data: DataSet, work_dir: Path) -> Latents:
    """What encode_to has written."""
    shares = [np.load(path) for path in sorted((work_dir / "latents").glob(f"{data.name}-*.npy"))]
    both = torch.from_numpy(np.concatenate(shares, axis=1))
    return Latents(both[0], both[1])


def encode_sets(rank: int, ranks: int, work_dir: Path, sets: tuple[DataSet, ...]) -> None:
    """Encode this rank's share, a contiguous run of pictures, of every data set."""
    vae = AutoencoderKL.from_pretrained(work_dir / "vae", use_safetensors=True).to(device()).eval()
    for data in sets:
        path = work_dir / "latents" / f"{data.name}-{rank}.npy"
        if path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        pixels = load_pixels(data, work_dir / "data")[:MOST]
        share = pixels[len(pixels) * rank // ranks : len(pixels) * (rank + 1) // ranks]
        parts = [_encode(vae, share[i : i + _BATCH]) for i in range(0, len(share), _BATCH)]
        np.save(path, np.concatenate(parts, axis=1))


@torch.no_grad()
def _encode(vae: AutoencoderKL, pixels: np.ndarray) -> np.ndarray:
    """Mean and deviation, stacked: float16 (2, B, 4, h, w)."""
    posterior = vae.encode(to_tensor(np.array(pixels)).to(device())).latent_dist
    return torch.stack([posterior.mean, posterior.std]).half().cpu().numpy()
