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
        self._masks = _mask_processor()
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

    def posterior(self, picture: Image.Image, mask: Image.Image | None) -> EncodedImage:
        """An input picture, and its mask of the same size, if any. The latents are certain: there
        is no deviation."""
        pixels = _pixels(picture, self._source.device, self._source.dtype)
        with self._encodes.of(*pixels.shape):
            mean = to_array(self._vae.encode(pixels).latents[0].float())
        image = EncodedImage(mean, np.zeros_like(mean), self._vae.config.scaling_factor)
        return _masked(image, mask, self._masks)


class FullVAE:
    """`AutoencoderKL`: the final picture, and input pictures to latents."""

    def __init__(self, source: ModelSource, channels_last: bool) -> None:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        self._device = source.device
        vae = source.part(AutoencoderKL, "vae")
        if vae.config.latents_mean is not None or vae.config.latents_std is not None:
            raise ValueError(
                f"{source.path}: a VAE with latents_mean or latents_std is not supported"
            )
        if source.dtype == torch.float16 and vae.config.force_upcast:
            vae = vae.float()  # SDXL's VAE overflows in half precision
        self._vae = _laid_out(vae, channels_last)
        self._masks = _mask_processor()
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

    def encode(self, picture: Image.Image) -> EncodedImage:
        """The posterior of a picture."""
        pixels = _pixels(picture, self._device, self._vae.dtype)
        with self._encodes.of(*pixels.shape):
            posterior = self._vae.encode(pixels).latent_dist
            mean, std = (to_array(each[0].float()) for each in (posterior.mean, posterior.std))
        return EncodedImage(mean, std, self._vae.config.scaling_factor)

    def posterior(self, picture: Image.Image, mask: Image.Image | None) -> EncodedImage:
        """An input picture, and its mask of the same size, if any."""
        return _masked(self.encode(picture), mask, self._masks)


def _mask_processor() -> Any:
    """As in `StableDiffusionXLInpaintPipeline`."""
    from diffusers.image_processor import VaeImageProcessor

    return VaeImageProcessor(do_normalize=False, do_binarize=True, do_convert_grayscale=True)


def _masked(image: EncodedImage, mask: Image.Image | None, processor: Any) -> EncodedImage:
    """With the mask at the size of latents, [1, h, w]: 1 where it is white, 0 where black.

    Of each cell the pixel at its corner counts, as in the pipeline's `prepare_mask_latents`.
    """
    if mask is None:
        return image
    size = (mask.height // LATENT_FACTOR, mask.width // LATENT_FACTOR)
    cells = torch.nn.functional.interpolate(processor.preprocess(mask), size)
    return replace(image, mask=to_array(cells[0]))


def _pixels(picture: Image.Image, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """[1, 3, H, W] in -1 to 1, rounded as diffusers' image processor rounds them."""
    pixels = torch.from_numpy(2 * (np.asarray(picture, dtype=np.float32) / 255) - 1)
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
