"""`glimpse.decoders` against diffusers' own decoding."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glimpse.decoders import FullVAE, TinyVAE
from glimpse.families.source import ModelSource

LATENTS, *OTHERS = np.random.default_rng(1).standard_normal((3, 4, 4, 8), np.float32)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def pixels(image: Image.Image) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.asarray(image).astype(np.int16)


@pytest.fixture(scope="module")
def theirs(pipeline: Any) -> Image.Image:
    """The pipeline's picture of the latents."""
    with torch.no_grad():
        latents = torch.from_numpy(LATENTS)[None] / pipeline.vae.config.scaling_factor
        decoded = pipeline.vae.decode(latents).sample
    image: Image.Image = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    return image


def test_a_final_picture_is_the_pipelines(full_vae: FullVAE, theirs: Image.Image) -> None:
    [image] = full_vae.decode([LATENTS])
    assert image.size == (64, 32)
    assert pixels(image).std() > 1  # or any picture would do
    assert np.array_equal(pixels(image), pixels(theirs))


def test_another_layout_in_memory_changes_a_pixel_by_one_at_most(
    source: ModelSource, theirs: Image.Image
) -> None:
    [image] = FullVAE(source, channels_last=True).decode([LATENTS])
    assert abs(pixels(image) - pixels(theirs)).max() <= 1


def test_a_preview_is_that_of_the_tiny_autoencoder(source: ModelSource, tiny_vae: TinyVAE) -> None:
    from diffusers import AutoencoderTiny

    theirs = AutoencoderTiny.from_pretrained(source.path, subfolder="vae_tiny")
    decoded = theirs.decode(torch.from_numpy(LATENTS)[None]).sample[0]
    expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    [image] = tiny_vae.decode([LATENTS])
    assert image.size == (64, 32)
    assert pixels(image).std() > 1
    assert np.array_equal(pixels(image), expected.numpy())


@pytest.mark.parametrize("channels_last", [True, False])
def test_decoded_together_or_alone(source: ModelSource, channels_last: bool) -> None:
    """As they are before rounding to 256 levels, which would hide what goes from one to another."""
    beside = dataclasses.replace(source, path=f"{source.path}/vae_tiny")
    for vae in (FullVAE(source, channels_last), TinyVAE(beside, channels_last)):
        module = vae._vae
        together = vae.pixels([LATENTS, *OTHERS])
        assert together.shape == (3, 3, 32, 64)
        for latents, among_others in zip([LATENTS, *OTHERS], together, strict=True):
            one = torch.from_numpy(latents)[None] / module.config.scaling_factor
            [alone] = vae.pixels([latents])
            assert torch.equal(alone, module.decode(one).sample[0])
            assert abs(among_others - alone).max() <= 1e-4
            assert among_others.std() > 0.01  # or any pictures would do


def test_a_mask_goes_with_the_latents_cell_by_cell(full_vae: FullVAE, tiny_vae: TinyVAE) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    cells = np.random.default_rng(3).random((4, 8)) < 0.5
    for vae in (full_vae, tiny_vae):
        assert vae.posterior(picture, None).mask is None
        mask = vae.posterior(picture, cells).mask
        assert mask is not None and mask.dtype == np.float32
        assert np.array_equal(mask, cells[np.newaxis])


def test_in_half_precision_the_full_vae_is_kept_in_single(source: ModelSource) -> None:
    half = FullVAE(dataclasses.replace(source, dtype=torch.float16), channels_last=False)
    whole = FullVAE(source, channels_last=False)
    # Its weights are rounded, its sums are not.
    [in_half], [in_whole] = half.decode([LATENTS]), whole.decode([LATENTS])
    assert abs(pixels(in_half) - pixels(in_whole)).max() <= 2
    assert half._vae.dtype == torch.float32


@pytest.mark.parametrize("channels_last", [True, False])
def test_warming_up_needs_only_a_size(source: ModelSource, channels_last: bool) -> None:
    FullVAE(source, channels_last).warm_up(64, 32)
    beside = dataclasses.replace(source, path=f"{source.path}/vae_tiny")
    TinyVAE(beside, channels_last).warm_up(64, 32)
