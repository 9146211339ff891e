"""One `serve run` of serve_config.yaml for all tests of this folder; diffusers' own pipeline."""

from collections.abc import Generator, Iterator
from typing import Any

import pytest
import torch
import yaml

from config.settings import ROOT
from tests.integration.application import Application

MODEL = ROOT / "models" / "miniature"


@pytest.fixture(scope="session")
def default_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    return config


@pytest.fixture(scope="session")
def application(default_config: dict[str, Any]) -> Iterator[Application]:
    with Application(default_config) as application:
        yield application


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """What the pictures are held against: the unmodified pipeline of the built-in model."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(MODEL, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def tiny_vae() -> Any:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny.from_pretrained(MODEL / "vae_tiny", dtype=torch.float32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its application logged, which ends with it."""
    report = yield
    application = getattr(item, "funcargs", {}).get("application")
    if report.failed and application is not None:
        report.sections.append(("Application's log", application.logs()[-16000:]))
    return report
