"""Rough previews: the colours of an estimate by a linear map, with no network and no torch."""

from collections.abc import Sequence

import numpy as np

from glimpse.pictures import encode_enlarged
from glimpse.ports import Latents, Picture
from glimpse.request import PreviewSpec


class LatentRGB:
    """The mean colour of the pixels each latent stands for, -1 to 1: `latents @ factors + bias`.

    `factors` are [C, 3] and `bias` is [3], for latents as the network sees them, which is scaled by
    the VAE's `scaling_factor`. `enlarged` is how many pixels wide a latent is.

    Source: `Latent2RGBPreviewer` in ComfyUI's latent_preview.py.
    """

    def __init__(
        self, factors: Sequence[Sequence[float]], bias: Sequence[float], enlarged: int
    ) -> None:
        self._factors = np.asarray(factors, np.float32)
        self._bias = np.asarray(bias, np.float32)
        self._enlarged = enlarged

    def preview(self, denoised: Latents, spec: PreviewSpec) -> Picture:
        """A denoised estimate [C, h, w] as an encoded preview, of the size a decoder gives it.

        Raises `ValueError` where the factors are for another number of channels.
        """
        colours = np.tensordot(denoised, self._factors, axes=(0, 0)) + self._bias
        levels = ((colours * 0.5 + 0.5).clip(0, 1) * 255).round().astype(np.uint8)
        return encode_enlarged(levels, self._enlarged, spec)
