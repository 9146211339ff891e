"""The linear map from latents to colours: found again where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from config.settings import LatentRGBFile
from training.latent_rgb import encode, fit, write_latent_rgb
from training.vae import new_vae

RNG = np.random.default_rng(3)


def test_a_map_that_made_the_pictures_is_found() -> None:
    factors, bias = RNG.normal(0, 0.05, (4, 3)), RNG.normal(0, 0.05, 3)
    latents = RNG.standard_normal((6, 4, 4, 8)).astype(np.float32)
    colours = latents.transpose(0, 2, 3, 1) @ factors + bias
    levels = np.repeat(np.repeat((colours + 1) * 127.5, 8, axis=1), 8, axis=2)
    # Around its mean colour a block may look as it likes.
    levels[:, ::2] += 20
    levels[:, 1::2] -= 20
    found = fit(latents, levels.round().clip(0, 255).astype(np.uint8))
    assert np.allclose(found[0], factors, atol=2e-3)
    assert np.allclose(found[1], bias, atol=2e-3)


def test_no_other_map_is_nearer() -> None:
    """The residual of least squares has nothing left of what was known."""
    latents = RNG.standard_normal((3, 4, 2, 2)).astype(np.float32)
    pixels = RNG.integers(0, 256, (3, 16, 16, 3), np.uint8)
    factors, bias = fit(latents, pixels)
    known = latents.transpose(0, 2, 3, 1).reshape(-1, 4)
    true = [
        pixels[n, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean(axis=(0, 1)) / 127.5 - 1
        for n, y, x in np.ndindex(3, 2, 2)
    ]
    residual = np.array(true) - known @ factors - bias
    assert np.abs(residual).max() > 0.01
    assert np.allclose(known.T @ residual, 0, atol=1e-5)
    assert np.allclose(residual.sum(axis=0), 0, atol=1e-5)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (3, 32, 64, 3), np.uint8)


def test_latents_are_scaled_as_the_network_sees_them(
    pixels: NDArray[np.uint8],
) -> None:
    vae = new_vae().eval()
    plain = encode(vae, pixels)
    assert plain.shape == (3, 4, 4, 8) and plain.dtype == np.float32
    with torch.no_grad():
        real = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        mean = vae.encode(real).latent_dist.mean
    assert np.allclose(plain, mean.numpy(), atol=1e-5)
    vae.register_to_config(scaling_factor=0.5)
    assert np.allclose(encode(vae, pixels), plain * 0.5)


def test_what_is_written_is_what_the_server_reads(
    pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    vae, path = new_vae().eval(), tmp_path / "latent_rgb.json"
    write_latent_rgb(vae, pixels, path)
    written = LatentRGBFile.model_validate_json(path.read_bytes())
    factors, bias = fit(encode(vae, pixels), pixels)
    assert np.allclose(written.factors, factors, atol=1e-4)
    assert np.allclose(written.bias, bias, atol=1e-4)
    assert "3 rendered pictures" in written.source
