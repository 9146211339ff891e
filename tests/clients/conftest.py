"""fal's clients, pointed at the application of a test."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import fal_client
import pytest

from tests.integration.application import Application

JAVASCRIPT = Path(__file__).parent / "javascript"
MODULES = JAVASCRIPT / "node_modules"

Call = Callable[..., Any]


@pytest.fixture
def pointed_here(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the Python client's own module attributes, which it reads at every call."""
    websockets = application.url.replace("http", "ws", 1)
    monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{application.url}/")
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{application.url}/queue/")
    monkeypatch.setattr(fal_client.client, "REALTIME_URL_FORMAT", f"{websockets}/")
    monkeypatch.setattr(fal_client.client, "REST_URL", f"{application.url}/rest")


@pytest.fixture
def key() -> str:
    return "any"


@pytest.fixture
def client(pointed_here: None, key: str) -> Iterator[fal_client.SyncClient]:
    client = fal_client.SyncClient(key=key)
    yield client
    client._client.close()  # it has no close of its own


@pytest.fixture
async def async_client(pointed_here: None, key: str) -> AsyncIterator[fal_client.AsyncClient]:
    client = fal_client.AsyncClient(key=key)
    yield client
    await (await client._client).aclose()


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Node, with the packages of `javascript/package-lock.json`.

    Skips the test where they are missing, or Node is; fails it where CI is true.
    """
    if shutil.which("node") is not None and MODULES.exists():
        return MODULES
    reason = "needs Node, and the packages that `make test` installs with npm"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def call(application: Application, key: str, node_modules: Path) -> Call:
    """What a call of fal's JavaScript client gave: `call(way, name)`, see `javascript/fal.mjs`."""

    def call(way: str, name: str, **env: str) -> Any:
        done = subprocess.run(
            ["node", JAVASCRIPT / "fal.mjs", way, name],
            env={**os.environ, "GLIMPSE_URL": application.url, "FAL_KEY": key, **env},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call
