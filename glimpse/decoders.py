"""Latents to pictures and back: TinyVAE previews, full VAE finals, input pictures."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from glimpse.families import LATENT_FACTOR
from glimpse.families.conditioning import EncodedImage
from glimpse.families.sdxl import ModelSource
from glimpse.pictures import encode_final, encode_preview, open_input
from glimpse.ports import Latents, Picture
from glimpse.request import PreviewSpec
from glimpse.tensors import from_array, to_array


class TinyVAE:
    """`AutoencoderTiny` (TAESD): previews in a fraction of the full VAE's time."""

    def __init__(self, source: ModelSource, channels_last: bool) -> None:
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

        self._source = source
        self._vae = _laid_out(source.part(AutoencoderTiny, None), channels_last)

    def warm_up(self, width: int, height: int) -> None:
        self.decode(_zeros(self._vae.config.latent_channels, width, height))

    def decode(self, denoised: Latents) -> Image.Image:
        """A denoised estimate [C, h, w] as a picture, factor times as large."""
        latents = from_array(denoised, self._source.device, self._source.dtype)[None]
        pixels = self._vae.decode(latents / self._vae.config.scaling_factor, return_dict=False)[0]
        return _to_image(pixels)

    def preview(self, denoised: Latents, spec: PreviewSpec) -> Picture:
        """A denoised estimate as an encoded preview, no longer than `spec.size`."""
        return encode_preview(self.decode(denoised), spec)


class FullVAE:
    """`AutoencoderKL`: the final picture, and input pictures to latents."""

    def __init__(self, source: ModelSource, channels_last: bool) -> None:
        from diffusers.image_processor import VaeImageProcessor
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
        # As in `StableDiffusionXLInpaintPipeline`.
        self._masks = VaeImageProcessor(
            do_normalize=False, do_binarize=True, do_convert_grayscale=True
        )

    def warm_up(self, width: int, height: int) -> None:
        self.decode(_zeros(self._vae.config.latent_channels, width, height))

    def decode(self, latents: Latents) -> Image.Image:
        """Final latents [C, h, w] as a picture, factor times as large."""
        config = self._vae.config
        scaled = from_array(latents, self._device, self._vae.dtype)[None] / config.scaling_factor
        return _to_image(self._vae.decode(scaled, return_dict=False)[0])

    def encode(self, picture: Image.Image) -> EncodedImage:
        """The posterior of a picture; its pixels rounded as diffusers' image processor does."""
        pixels = torch.from_numpy(2 * (np.asarray(picture, dtype=np.float32) / 255) - 1)
        pixels = pixels.permute(2, 0, 1)[None].to(self._device, self._vae.dtype)
        posterior = self._vae.encode(pixels).latent_dist
        return EncodedImage(
            to_array(posterior.mean[0].float()),
            to_array(posterior.std[0].float()),
            self._vae.config.scaling_factor,
        )

    def picture(self, latents: Latents, picture_format: str) -> Picture:
        """Final latents as an encoded picture."""
        return encode_final(self.decode(latents), picture_format)

    def mask(self, picture: Image.Image) -> NDArray[np.float32]:
        """A picture as a mask of the size of latents, [1, h, w]: 1 where white, 0 where black.

        Of each cell the pixel at its corner counts, as in the pipeline's `prepare_mask_latents`.
        """
        size = (picture.height // LATENT_FACTOR, picture.width // LATENT_FACTOR)
        pixels = self._masks.preprocess(picture)
        return to_array(torch.nn.functional.interpolate(pixels, size)[0])

    def posterior(
        self, picture: bytes, width: int, height: int, mask: bytes | None = None
    ) -> EncodedImage:
        """An encoded input picture, cover-cropped to the size; and likewise its mask, if any.

        Raises `InvalidRequest`, about `image_url` or `mask_url`.
        """
        image = self.encode(open_input(picture, width, height))
        if mask is None:
            return image
        return replace(image, mask=self.mask(open_input(mask, width, height, "mask_url")))


def _zeros(channels: int, width: int, height: int) -> Latents:
    """Latents of nothing, for a size in pixels."""
    return np.zeros((channels, height // LATENT_FACTOR, width // LATENT_FACTOR), np.float32)


def _laid_out(module: Any, channels_last: bool) -> Any:
    return module.to(memory_format=torch.channels_last) if channels_last else module


def _to_image(pixels: torch.Tensor) -> Image.Image:
    """Pixels [1, 3, H, W] in -1 to 1, rounded as diffusers' image processor rounds them."""
    unit = (pixels[0].float() * 0.5 + 0.5).clamp(0, 1)
    return Image.fromarray((unit.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8))
