"""Latents to pictures and back: TinyVAE previews, full VAE finals, input pictures."""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from glimpse.errors import invalid
from glimpse.families.conditioning import EncodedImage
from glimpse.families.sdxl import ModelSource
from glimpse.ports import Latents, Picture
from glimpse.request import PreviewSpec
from glimpse.tensors import from_array, to_array

FINAL_OPTIONS: dict[str, dict[str, int]] = {
    "jpeg": {"quality": 95},
    "webp": {"quality": 95},
    "png": {"compress_level": 1},  # a little larger, several times sooner
}


class TinyVAE:
    """`AutoencoderTiny` (TAESD): previews in a fraction of the full VAE's time."""

    def __init__(self, source: ModelSource, channels_last: bool) -> None:
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

        self._source = source
        self._vae = _laid_out(source.part(AutoencoderTiny, None), channels_last)

    def warm_up(self, width: int, height: int) -> None:
        factor = 2 ** (len(self._vae.config.decoder_block_out_channels) - 1)
        self.decode(_zeros(self._vae.config.latent_channels, width // factor, height // factor))

    def decode(self, denoised: Latents) -> Image.Image:
        """A denoised estimate [C, h, w] as a picture, factor times as large."""
        latents = from_array(denoised, self._source.device, self._source.dtype)[None]
        pixels = self._vae.decode(latents / self._vae.config.scaling_factor, return_dict=False)[0]
        return _to_image(pixels)

    def preview(self, denoised: Latents, spec: PreviewSpec) -> Picture:
        """A denoised estimate as an encoded preview, no longer than `spec.size`."""
        image = self.decode(denoised)
        if max(image.size) > spec.size:
            image = ImageOps.contain(image, (spec.size, spec.size))
        return _encode(image, spec.format, {"quality": spec.quality})


class FullVAE:
    """`AutoencoderKL`: the final picture, and input pictures to latents."""

    def __init__(self, source: ModelSource, channels_last: bool) -> None:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        self._device = source.device
        vae = source.part(AutoencoderKL, "vae")
        if source.dtype == torch.float16 and vae.config.force_upcast:
            vae = vae.float()  # SDXL's VAE overflows in half precision
        self._vae = _laid_out(vae, channels_last)

    def warm_up(self, width: int, height: int) -> None:
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self.decode(_zeros(self._vae.config.latent_channels, width // factor, height // factor))

    def decode(self, latents: Latents) -> Image.Image:
        """Final latents [C, h, w] as a picture, factor times as large."""
        config = self._vae.config
        scaled = from_array(latents, self._device, self._vae.dtype)[None] / config.scaling_factor
        return _to_image(self._vae.decode(scaled, return_dict=False)[0])

    def encode(self, picture: Image.Image) -> EncodedImage:
        """The posterior of a picture; its mean and deviation in the network's scale."""
        pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1)
        pixels = pixels.permute(2, 0, 1)[None].to(self._device, self._vae.dtype)
        posterior = self._vae.encode(pixels).latent_dist
        factor = self._vae.config.scaling_factor
        return EncodedImage(
            to_array((posterior.mean * factor)[0].float()),
            to_array((posterior.std * factor)[0].float()),
        )

    def picture(self, latents: Latents, picture_format: str) -> Picture:
        """Final latents as an encoded picture."""
        return _encode(self.decode(latents), picture_format, FINAL_OPTIONS[picture_format])

    def posterior(self, picture: bytes, width: int, height: int) -> EncodedImage:
        """An encoded input picture, cover-cropped to the size."""
        return self.encode(open_picture(picture, width, height))


def _zeros(channels: int, width: int, height: int) -> Latents:
    return np.zeros((channels, height, width), np.float32)


def _laid_out(module: Any, channels_last: bool) -> Any:
    return module.to(memory_format=torch.channels_last) if channels_last else module


def _to_image(pixels: torch.Tensor) -> Image.Image:
    """Pixels [1, 3, H, W] in -1 to 1, rounded as diffusers' image processor rounds them."""
    unit = (pixels[0].float() * 0.5 + 0.5).clamp(0, 1)
    return Image.fromarray((unit.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8))


def _encode(image: Image.Image, picture_format: str, options: dict[str, int]) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, picture_format, **options)
    return Picture(buffer.getvalue(), f"image/{picture_format}", image.width, image.height)


def open_picture(data: bytes, width: int, height: int) -> Image.Image:
    """An input picture, cover-cropped to the size. Raises `InvalidRequest` for anything else."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        raise invalid(
            "image_url", "is not a picture that can be read; send JPEG, PNG or WebP"
        ) from None
    return ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS)
