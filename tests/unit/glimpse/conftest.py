"""The tiny random model and its parts, made once; nothing is loaded where no test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from glimpse.torch_thread import TorchThread

if TYPE_CHECKING:
    from glimpse.decoders import FullVAE, TinyVAE
    from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder
    from glimpse.families.source import ModelSource


@pytest.fixture(scope="session")
def torch_thread() -> Iterator[TorchThread]:
    thread = TorchThread(1)
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from tests.tiny_model import build_tiny_sdxl

    torch.set_num_threads(1)  # two would wait for each other where the machine is busy
    return build_tiny_sdxl(tmp_path_factory.mktemp("tiny_sdxl"))


@pytest.fixture(scope="session")
def source(tiny_sdxl: Path) -> ModelSource:
    import torch

    from glimpse.families.source import ModelSource

    return ModelSource(str(tiny_sdxl), None, None, torch.float32, torch.device("cpu"))


@pytest.fixture(scope="session")
def text_encoder(source: ModelSource) -> SDXLTextEncoder:
    from glimpse.families.sdxl import SDXLTextEncoder

    return SDXLTextEncoder(source)


@pytest.fixture(scope="session")
def network(source: ModelSource) -> SDXLNetwork:
    from glimpse.families.sdxl import SDXLNetwork

    return SDXLNetwork(source)


@pytest.fixture(scope="session")
def full_vae(source: ModelSource) -> FullVAE:
    from glimpse.decoders import FullVAE

    return FullVAE(source, channels_last=False)


@pytest.fixture(scope="session")
def tiny_vae(source: ModelSource) -> TinyVAE:
    import dataclasses

    from glimpse.decoders import TinyVAE

    beside = dataclasses.replace(source, path=f"{source.path}/vae_tiny")
    return TinyVAE(beside, channels_last=False)


@pytest.fixture(scope="session")
def pipeline(tiny_sdxl: Path) -> Any:
    """What we are held against: diffusers' own pipeline of the same weights."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
