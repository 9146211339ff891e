"""Latents to pictures and back: TinyVAE previews, full VAE finals, input pictures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from glimpse.families import LATENT_FACTOR
from glimpse.families.conditioning import EncodedImage
from glimpse.families.source import ModelSource
from glimpse.input_pictures.masks import Cells
from glimpse.input_pictures.reading import Pixels
from glimpse.ports import Latents
from glimpse.tensors import from_array, to_array
from glimpse.watch import Calls


class TinyVAE:
    """`AutoencoderTiny` (TAESD): previews in a fraction of the full VAE's time, and likewise
    pictures to latents."""

    def __init__(self, source: ModelSource, channels_last: bool) -> None:
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

        self._source = source
        self._vae = _laid_out(source.part(AutoencoderTiny, None), channels_last)
        self._decodes, self._encodes = Calls(), Calls()

    def warm_up(self, width: int, height: int) -> None:
        self.decode([_zeros(self._vae.config.latent_channels, width, height)])

    def decode(self, denoised: Sequence[Latents]) -> list[Image.Image]:
        """Denoised estimates of one size, [C, h, w] each, as pictures factor times as large."""
        return _to_images(self.pixels(denoised))

    def pixels(self, denoised: Sequence[Latents]) -> torch.Tensor:
        """The same as [N, 3, H, W], in about -1 to 1."""
        with self._decodes.of(len(denoised), *denoised[0].shape):
            return _decode(self._vae, denoised, self._source.device, self._source.dtype)

    def posterior(self, picture: Pixels, mask: Cells | None) -> EncodedImage:
        """An input picture, and the mask of its latents, if any. The latents are certain: there
        is no deviation."""
        pixels = _pixels(picture, self._source.device, self._source.dtype)
        with self._encodes.of(*pixels.shape):
            mean = to_array(self._vae.encode(pixels).latents[0].float())
        image = EncodedImage(mean, np.zeros_like(mean), self._vae.config.scaling_factor)
        return _masked(image, mask)


class FullVAE:
    """`AutoencoderKL`: the final picture, and input pictures to latents."""

    def __init__(self, source: ModelSource, channels_last: bool) -> None:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        self._device = source.device
        vae = source.part(AutoencoderKL, source.vae_folder)
        if vae.config.latents_mean is not None or vae.config.latents_std is not None:
            raise ValueError(
                f"{source.path}: a VAE with latents_mean or latents_std is not supported"
            )
        if source.dtype == torch.float16 and vae.config.force_upcast:
            vae = vae.float()  # SDXL's VAE overflows in half precision
        self._vae = _laid_out(vae, channels_last)
        self._decodes, self._encodes = Calls(), Calls()

    def warm_up(self, width: int, height: int) -> None:
        self.decode([_zeros(self._vae.config.latent_channels, width, height)])

    def decode(self, latents: Sequence[Latents]) -> list[Image.Image]:
        """Final latents of one size, [C, h, w] each, as pictures factor times as large."""
        return _to_images(self.pixels(latents))

    def pixels(self, latents: Sequence[Latents]) -> torch.Tensor:
        """The same as [N, 3, H, W], in about -1 to 1."""
        with self._decodes.of(len(latents), *latents[0].shape):
            return _decode(self._vae, latents, self._device, self._vae.dtype)

    def encode(self, picture: Pixels) -> EncodedImage:
        """The posterior of a picture."""
        pixels = _pixels(picture, self._device, self._vae.dtype)
        with self._encodes.of(*pixels.shape):
            posterior = self._vae.encode(pixels).latent_dist
            mean, std = (to_array(each[0].float()) for each in (posterior.mean, posterior.std))
        return EncodedImage(mean, std, self._vae.config.scaling_factor)

    def posterior(self, picture: Pixels, mask: Cells | None) -> EncodedImage:
        """An input picture, and the mask of its latents, if any."""
        return _masked(self.encode(picture), mask)


def _masked(image: EncodedImage, mask: Cells | None) -> EncodedImage:
    """With the mask as the network's rows have it, [1, h, w]: 1 where a latent is made anew."""
    return image if mask is None else replace(image, mask=mask[np.newaxis].astype(np.float32))


def _pixels(picture: Pixels, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """[1, 3, H, W] in -1 to 1, rounded as diffusers' image processor rounds them."""
    pixels = torch.from_numpy(2 * (picture.astype(np.float32) / 255) - 1)
    return pixels.permute(2, 0, 1)[None].to(device, dtype)


def _zeros(channels: int, width: int, height: int) -> Latents:
    """Latents of nothing, for a size in pixels."""
    return np.zeros((channels, height // LATENT_FACTOR, width // LATENT_FACTOR), np.float32)


def _laid_out(module: Any, channels_last: bool) -> Any:
    return module.to(memory_format=torch.channels_last) if channels_last else module


def _decode(
    vae: Any, latents: Sequence[Latents], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    scaled = from_array(np.stack(latents), device, dtype) / vae.config.scaling_factor
    pixels: torch.Tensor = vae.decode(scaled, return_dict=False)[0]
    return pixels


def _to_images(pixels: torch.Tensor) -> list[Image.Image]:
    """Pixels [N, 3, H, W] in -1 to 1, rounded as diffusers' image processor rounds them."""
    unit = (pixels.float() * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in (unit * 255).round().astype(np.uint8)]
