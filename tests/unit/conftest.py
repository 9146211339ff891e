"""Unit tests run without Ray."""

import pytest


@pytest.fixture(autouse=True)
def ray_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ray.init()` looks here for a cluster, and fails at once at a scheme that it does not know.
    It holds for child processes too, and nobody has to import Ray for it."""
    monkeypatch.setenv("RAY_ADDRESS", "no-ray-in-unit-tests://")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no NVIDIA GPU here")
