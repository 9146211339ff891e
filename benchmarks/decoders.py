"""TinyVAE against the full VAE: one decode, from latents to pixels."""

import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

from config.settings import AppSettings

BUILT_IN_SIZES = (64, 128, 192, 256)
SDXL_SIZES = (256, 512)
SDXL_SIZE_ONCE = 1024  # a minute for the full VAE on two cores: once, in the layout of the service
REPETITIONS, ENOUGH_S = 20, 4.0  # a decode is repeated so often, or until it has taken so long

# The decoder of stabilityai/sdxl-vae; madebyollin/taesdxl is what AutoencoderTiny is by default.
# How long a decode takes does not depend on the weights, so these are random.
SDXL_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}
LATENT_FACTOR = 8


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians, in seconds. `size` is the side of a square picture, in pixels."""

    model: str
    size: int
    channels_last: bool
    full_s: float
    tiny_s: float
    repetitions: int

    @property
    def ratio(self) -> float:
        return self.full_s / self.tiny_s


def measure(settings: AppSettings) -> list[Figure]:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_grad_enabled(False)
    built_in, sdxl = _built_in(settings), _sdxl()
    figures = [
        _figure("built-in", built_in, size, channels_last)
        for channels_last in (True, False)
        for size in BUILT_IN_SIZES
    ]
    figures += [
        _figure("SDXL", sdxl, size, channels_last)
        for channels_last in (True, False)
        for size in SDXL_SIZES
    ]
    return [*figures, _figure("SDXL", sdxl, SDXL_SIZE_ONCE, channels_last=True)]


def _built_in(settings: AppSettings) -> tuple[Any, Any]:
    from diffusers import AutoencoderKL, AutoencoderTiny

    model = settings.model
    return (
        AutoencoderKL.from_pretrained(model.resolve(model.path), subfolder="vae").eval(),
        AutoencoderTiny.from_pretrained(model.resolve(model.tiny_vae)).eval(),
    )


def _sdxl() -> tuple[Any, Any]:
    from diffusers import AutoencoderKL, AutoencoderTiny

    return AutoencoderKL(**SDXL_VAE).eval(), AutoencoderTiny().eval()


def _figure(model: str, vaes: tuple[Any, Any], size: int, channels_last: bool) -> Figure:
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    for vae in vaes:
        vae.to(memory_format=layout)
        _decode(vae, 8 * LATENT_FACTOR)  # first calls are slow
    full: list[float] = []
    tiny: list[float] = []
    while len(full) < REPETITIONS and sum(full) < ENOUGH_S:
        for vae, seconds in zip(vaes, (full, tiny), strict=True):
            seconds.append(_decode(vae, size))
    return Figure(
        model, size, channels_last, statistics.median(full), statistics.median(tiny), len(full)
    )


def _decode(vae: Any, size: int) -> float:
    """Seconds of one decode of noise."""
    import torch

    side = size // LATENT_FACTOR
    latents = torch.randn(1, vae.config.latent_channels, side, side)
    began = time.perf_counter()
    vae.decode(latents)
    return time.perf_counter() - began
