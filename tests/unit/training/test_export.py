"""What is exported loads as users load it, is in half precision and is small enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline
from safetensors import safe_open

from config.settings import LatentRGBFile
from training import text
from training.data import TRAIN
from training.decoder import new_tiny
from training.export import export, megabytes
from training.unet import new_unet
from training.vae import new_vae


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of networks that have learnt nothing."""
    torch.manual_seed(0)
    work_dir = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "CAPTIONS", 500)
        tokenizer = text.train_tokenizer()
    first, second = text.new_encoders(tokenizer)
    tokenizer.save_pretrained(work_dir / "tokenizer")
    first.save_pretrained(work_dir / "text_encoder")
    second.save_pretrained(work_dir / "text_encoder_2")
    new_vae().save_pretrained(work_dir / "vae-sharp")
    new_tiny().save_pretrained(work_dir / "vae_tiny")
    new_unet().save_pretrained(work_dir / "unet")
    (work_dir / "data").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.save(work_dir / "data" / f"{TRAIN.name}.npy", noise)
    export(work_dir, work_dir / "model")
    return work_dir / "model"


def test_the_plain_pipeline_loads_and_draws(exported: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(exported)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a red house", height=64, width=64, num_inference_steps=1).images[0]
    assert picture.size == (64, 64)


def test_the_tiny_autoencoder_decodes_the_same_latents(exported: Path) -> None:
    tiny = AutoencoderTiny.from_pretrained(exported / "vae_tiny")
    assert tiny.decode(torch.zeros(1, 4, 8, 8)).sample.shape == (1, 3, 64, 64)


def test_the_colours_of_rough_previews_are_beside_it(exported: Path) -> None:
    colours = LatentRGBFile.model_validate_json((exported / "latent_rgb.json").read_bytes())
    assert "2 rendered pictures" in colours.source


def test_all_weights_are_halves_and_fit(exported: Path) -> None:
    for path in exported.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}
    assert megabytes(exported) < 25
    assert not list(exported.rglob("*.bin"))


def test_any_text_can_be_asked(exported: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(exported)
    for prompt in ("", "雪山 🎈", "word " * 300, "<|endoftext|> <|startoftext|>"):
        embeddings = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)[0]
        assert embeddings.shape == (1, 77, 128)
        assert embeddings.isfinite().all()
