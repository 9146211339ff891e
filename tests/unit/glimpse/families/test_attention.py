"""`glimpse.families.attention`: diffusers' own attention, to the bit, with the text's part once."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_dispatch import dispatch_attention_fn

from glimpse.families import attention
from glimpse.families.attention import TextLayers
from glimpse.families.conditioning import Conditioning
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder, Tuning
from glimpse.families.source import ModelSource


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def unet(source: ModelSource) -> Any:
    return UNet2DConditionModel.from_pretrained(source.path, subfolder="unet").eval()


def predict(unet: Any, text: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    config = unet.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    added = {
        "text_embeds": torch.randn(3, pooled, generator=generator),
        "time_ids": torch.full((3, 6), 64.0),
    }
    latents = torch.randn(3, 4, 8, 4, generator=generator)
    timesteps = torch.tensor([900.0, 500.0, 10.0])
    prediction: torch.Tensor = unet(
        latents,
        timesteps,
        encoder_hidden_states=text,
        added_cond_kwargs=added,
        return_dict=False,
    )[0]
    return prediction


def test_a_unet_predicts_the_same_to_the_bit(unet: Any) -> None:
    tokens = torch.randn(3, 77, unet.config.cross_attention_dim)
    expected = predict(unet, tokens)
    layers = TextLayers(unet, None)
    assert torch.equal(predict(unet, list(layers.project(tokens))), expected)


def test_the_text_is_projected_once_a_job_and_in_no_call(
    network: SDXLNetwork, text_encoder: SDXLTextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    projected = 0
    project = TextLayers.project

    def counting(layers: TextLayers, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        nonlocal projected
        projected += 1
        return project(layers, tokens)

    monkeypatch.setattr(TextLayers, "project", counting)
    rows = network.rows(Conditioning(text_encoder.encode(["a"])[0], None), True, 64, 32)
    for _ in range(3):
        network.predict(torch.randn(2, 4, 4, 8), torch.tensor([10.0, 900.0]), rows)
    assert projected == 1


def test_a_backend_is_really_used(
    source: ModelSource, network: SDXLNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers' own `set_attention_backend` changes nothing in a UNet."""
    used = []
    dispatch = dispatch_attention_fn

    def dispatching(*heads: torch.Tensor, backend: Any) -> Any:
        used.append(backend.value)
        return dispatch(*heads, backend=backend)

    monkeypatch.setattr(attention, "dispatch_attention_fn", dispatching)
    network.run_blank(1, 64, 32)
    assert not used
    SDXLNetwork(source, Tuning(attention_backend="_native_math")).run_blank(1, 64, 32)
    assert set(used) == {"_native_math"}


def test_an_unknown_backend_is_refused(source: ModelSource) -> None:
    with pytest.raises(ValueError, match="no such thing"):
        SDXLNetwork(source, Tuning(attention_backend="no such thing"))
