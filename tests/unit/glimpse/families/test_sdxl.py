"""`glimpse.families.sdxl`: what the pipeline encodes, and rows in, rows out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from glimpse.engine import reference, steps
from glimpse.families.conditioning import Conditioning, EncodedImage
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder
from glimpse.families.source import ModelSource
from tests.unit.glimpse.engine.oracle import make_job

TEXTS = ["a red lighthouse", "", "w " * 200]


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_encoded_as_by_the_pipeline(
    text_encoder: SDXLTextEncoder, pipeline: Any, text: str
) -> None:
    tokens, _, pooled, _ = pipeline.encode_prompt(text, do_classifier_free_guidance=False)
    (embedding,) = text_encoder.encode([text])
    assert np.array_equal(embedding.tokens, tokens[0].numpy())
    assert np.array_equal(embedding.pooled, pooled[0].numpy())


@pytest.mark.parametrize(("words", "cut"), [(0, 0), (1, 0), (75, 0), (76, 1), (200, 125)])
def test_of_a_text_past_77_tokens_the_rest_is_counted(
    text_encoder: SDXLTextEncoder, words: int, cut: int
) -> None:
    longest = text_encoder.encode(["w " * 75])[0]
    (embedding,) = text_encoder.encode(["w " * words])
    assert embedding.cut == cut
    assert np.array_equal(embedding.tokens, longest.tokens) == (words >= 75)


def test_texts_of_one_batch_are_told_apart(text_encoder: SDXLTextEncoder) -> None:
    batch = text_encoder.encode(TEXTS)
    for text, embedding in zip(TEXTS, batch, strict=True):
        (alone,) = text_encoder.encode([text])
        assert np.allclose(embedding.tokens, alone.tokens, atol=1e-5)
        assert np.allclose(embedding.pooled, alone.pooled, atol=1e-5)
    assert not np.allclose(batch[0].pooled, batch[1].pooled, atol=1e-2)


def conditioning(text_encoder: SDXLTextEncoder, negative: str | None) -> Conditioning:
    prompt, *rest = text_encoder.encode(["a red lighthouse", *([negative] if negative else [])])
    return Conditioning(prompt, rest[0] if rest else None)


def test_a_job_takes_one_row_and_with_guidance_two_the_negative_first(
    network: SDXLNetwork, text_encoder: SDXLTextEncoder
) -> None:
    given = conditioning(text_encoder, "fog")
    assert given.negative is not None
    one = network.rows(given, False, 64, 32)
    assert len(one) == 1
    pooled, time_ids, *text = one.tensors
    assert np.array_equal(pooled[0], given.prompt.pooled)
    assert time_ids.tolist() == [[32, 64, 0, 0, 32, 64]]
    two = network.rows(given, True, 64, 32)
    assert len(two) == 2
    pooled, time_ids, *both = two.tensors
    assert np.array_equal(pooled[0], given.negative.pooled)
    assert np.array_equal(pooled[1], given.prompt.pooled)
    assert time_ids.tolist() == [[32, 64, 0, 0, 32, 64]] * 2
    for several, alone in zip(both, text, strict=True):
        assert torch.allclose(several[1], alone[0], atol=1e-5)
        assert not torch.allclose(several[0], alone[0], atol=1e-2)


def test_without_a_negative_text_its_row_is_zeros(
    network: SDXLNetwork, text_encoder: SDXLTextEncoder
) -> None:
    rows = network.rows(conditioning(text_encoder, None), True, 64, 32)
    for index in (0, *range(2, len(rows.tensors))):  # all but the time ids
        assert rows.tensors[index][0].abs().sum() == 0
        assert rows.tensors[index][1].abs().sum() > 0


def test_each_row_has_a_timestep_of_its_own(
    network: SDXLNetwork, text_encoder: SDXLTextEncoder
) -> None:
    rows = network.rows(conditioning(text_encoder, "fog"), True, 64, 32)
    latents = torch.randn(2, 4, 4, 8)
    timesteps = torch.tensor([900.0, 100.0])
    both = network.predict(latents, timesteps, rows)
    other = network.predict(latents, timesteps.flip(0), rows)
    same = network.predict(latents, timesteps[[0, 0]], rows)
    assert both.shape == latents.shape
    assert torch.allclose(both[0], same[0], atol=1e-5)
    assert not torch.allclose(both[1], same[1], atol=1e-4)
    assert not torch.allclose(both, other, atol=1e-4)


def test_what_the_engine_asks_of_a_network(network: SDXLNetwork) -> None:
    assert (network.latent_channels, network.latent_factor) == (4, 8)
    assert network.scheduler_config["prediction_type"] == "v_prediction"
    network.warm_up(64, 32)


def test_a_posterior_is_a_batch_of_one(network: SDXLNetwork) -> None:
    mean, std = np.ones((4, 4, 8), np.float32), np.zeros((4, 4, 8), np.float32)
    posterior = network.posterior(EncodedImage(mean, std, 0.5))
    assert posterior.mean.shape == posterior.std.shape == (1, 4, 4, 8)
    assert posterior.scale == 0.5
    assert posterior.mask is None
    masked = network.posterior(EncodedImage(mean, std, 0.5, mean[:1]))
    assert masked.mask is not None and masked.mask.shape == (1, 1, 4, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_from_files_of_a_variant(
    tiny_sdxl: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    """As the profiles load SDXL: `variant: fp16`; the pipeline in the same precision is right."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    source = ModelSource(str(tmp_path), "fp16", None, dtype, torch.device("cpu"))
    job = make_job(num_inference_steps=2)
    (prompt,) = SDXLTextEncoder(source).encode(["a red lighthouse"])
    network = SDXLNetwork(source)
    running = steps.begin(job, Conditioning(prompt, None), None, network, None)
    while not running.done:
        reference.advance(running, network)
    expected = pipeline(
        "a red lighthouse",
        width=job.width,
        height=job.height,
        num_inference_steps=2,
        guidance_scale=job.guidance_scale,
        generator=torch.Generator().manual_seed(job.seed),
        output_type="latent",
    ).images
    assert running.latents.dtype == dtype
    assert torch.equal(running.latents, expected)
