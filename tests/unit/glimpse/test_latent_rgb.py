"""`glimpse.latent_rgb`: colours by hand, sizes of the decoder's, and pictures one can make out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from config.settings import ModelSettings
from glimpse.latent_rgb import LatentRGB
from glimpse.pictures import encode_preview
from glimpse.ports import Latents, Picture
from glimpse.request import PreviewSpec

if TYPE_CHECKING:
    from glimpse.decoders import TinyVAE

# The first channel is red, the second green and the third blue; the fourth takes from all three.
PRIMARIES = LatentRGB([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]], [0, 0, 0.5], 8)
LOSSLESS_ENOUGH = PreviewSpec(1, "webp", 100, 512)


def pixels(picture: Picture) -> NDArray[np.float64]:
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.size == (picture.width, picture.height)
        return np.asarray(image.convert("RGB")).astype(float)


def even(*latent: float) -> Latents:
    """Latents that are the same everywhere."""
    return np.tile(np.array(latent, np.float32)[:, None, None], (1, 4, 4))


@pytest.mark.parametrize(
    ("latent", "colour"),
    [
        ((0, 0, 0, 0), (127.5, 127.5, 191.25)),  # the bias: -1 to 1 is 0 to 255
        ((0.5, -0.5, -0.5, 0), (191.25, 63.75, 127.5)),
        ((0.5, 0, 0, 0.5), (127.5, 63.75, 127.5)),
        ((9, -9, 0.5, 0), (255, 0, 255)),  # what is out of range is not wrapped around
    ],
)
def test_a_colour_is_the_bias_and_each_channels_share(
    latent: tuple[float, ...], colour: tuple[float, ...]
) -> None:
    picture = PRIMARIES.preview(even(*latent), LOSSLESS_ENOUGH)
    assert np.allclose(pixels(picture), colour, atol=3)


def test_each_latent_is_where_its_pixels_are() -> None:
    latents = np.full((4, 4, 6), -1, np.float32)
    latents[0, :2, :3] = 1  # red, top left
    latents[1, 2:, 3:] = 1  # green, bottom right
    made = pixels(PRIMARIES.preview(latents, LOSSLESS_ENOUGH))
    assert made.shape == (32, 48, 3)
    assert made[4, 4].argmax() == 0 and made[27, 43].argmax() == 1


@pytest.mark.parametrize("shape", [(4, 8), (16, 16), (7, 3), (16, 9)])
@pytest.mark.parametrize("size", [16, 33, 50, 128, 512])
def test_its_size_is_that_of_a_decoded_preview(
    tiny_vae: TinyVAE, shape: tuple[int, int], size: int
) -> None:
    import torch

    latents = np.random.default_rng(1).standard_normal((4, *shape), np.float32)
    spec = PreviewSpec(1, "jpeg", 70, size)
    with torch.no_grad():
        decoded = encode_preview(tiny_vae.decode([latents])[0], spec)
    rough = PRIMARIES.preview(latents, spec)
    assert (rough.width, rough.height) == (decoded.width, decoded.height)


def test_it_is_encoded_as_wanted() -> None:
    latents = np.random.default_rng(1).standard_normal((4, 16, 16), np.float32)
    webp, low, high = (
        PRIMARIES.preview(latents, PreviewSpec(1, picture_format, quality, 512))
        for picture_format, quality in (("webp", 70), ("jpeg", 10), ("jpeg", 95))
    )
    assert (webp.content_type, low.content_type) == ("image/webp", "image/jpeg")
    assert Image.open(io.BytesIO(webp.data)).format == "WEBP"
    assert len(low.data) < len(high.data) / 2


def test_factors_for_other_latents_are_refused() -> None:
    with pytest.raises(ValueError):
        PRIMARIES.preview(np.zeros((16, 4, 4), np.float32), LOSSLESS_ENOUGH)


def test_a_rough_preview_of_the_built_in_model_is_recognisably_the_picture() -> None:
    """On pictures that its factors were not fitted on."""
    import torch
    from diffusers import AutoencoderKL

    from training.data import VALIDATION
    from training.latent_rgb import encode
    from training.renderer import render

    model = ModelSettings()
    colours = model.read_latent_rgb()
    assert colours is not None
    latent_rgb = LatentRGB(colours.factors, colours.bias, 8)
    scenes = VALIDATION.scenes[:8]
    real = np.stack([render(scene, VALIDATION.seed(i)) for i, scene in enumerate(scenes)])
    vae = AutoencoderKL.from_pretrained(model.resolve(model.path), subfolder="vae")
    latents = encode(vae.to(torch.float32).eval(), real)
    made = np.stack([pixels(latent_rgb.preview(each, LOSSLESS_ENOUGH)) for each in latents])

    def blocks(pictures: NDArray[Any]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = pictures.reshape(8, 16, 8, 16, 8, 3).mean(axis=(2, 4))
        return means.reshape(8, -1)

    likeness = np.corrcoef(blocks(made), blocks(real))[:8, 8:]  # of each preview to each picture
    assert likeness.diagonal().min() > 0.75
    assert (likeness.argmax(axis=1) == np.arange(8)).all()
