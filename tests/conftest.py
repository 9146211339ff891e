"""One `serve run` of serve_config.yaml for all tests that want one, in whichever folder."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from config.settings import ROOT

if TYPE_CHECKING:
    from tests.integration.application import Application

WITH_RAY = {"clients", "integration"}


@pytest.fixture(scope="session")
def default_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    return config


@pytest.fixture(scope="session")
def application(default_config: dict[str, Any]) -> Iterator[Application]:
    from tests.integration.application import Application  # unit tests do without

    with Application(default_config) as application:
        yield application


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if WITH_RAY & {*item.path.parts}:
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
