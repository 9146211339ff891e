"""One `serve run` of serve_config.yaml for all tests of this folder."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from config.settings import ROOT
from tests.integration.application import Application


@pytest.fixture(scope="session")
def default_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    return config


@pytest.fixture(scope="session")
def application(default_config: dict[str, Any]) -> Iterator[Application]:
    with Application(default_config) as application:
        yield application


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
