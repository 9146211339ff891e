"""Clients, pointed at the application of a test."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import fal_client
import pytest

from tests.integration.application import Application

JAVASCRIPT = Path(__file__).parent / "javascript"
MODULES = JAVASCRIPT / "node_modules"
PYTHON = Path(__file__).parent / "python"
CLIENT_PYTHON = PYTHON / ".venv" / "bin" / "python"

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
    missing("needs Node, and the packages that `make test` installs with npm")


@pytest.fixture(scope="session")
def client_python() -> Path:
    """Python with litellm and langchain, as `python/requirements.txt` has them; likewise."""
    if CLIENT_PYTHON.exists():
        return CLIENT_PYTHON
    missing("needs the packages that `make test` installs in tests/clients/python/.venv")


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def run_client(application: Application, key: str) -> Call:
    """What a client's program printed, from JSON: `run_client(*command, **environment)`. Bytes get
    there as base64."""

    def run_client(*command: str | Path, **env: str | bytes) -> Any:
        here = {"GLIMPSE_URL": application.url, "FAL_KEY": key, "OPENAI_API_KEY": key}
        for name, value in env.items():
            here[name] = value if isinstance(value, str) else base64.b64encode(value).decode()
        done = subprocess.run(
            command, env={**os.environ, **here}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_client


@pytest.fixture
def call(run_client: Call, node_modules: Path) -> Call:
    """What a call of fal's JavaScript client gave: `call(way, name)`, see `javascript/fal.mjs`."""
    return lambda way, name, **env: run_client("node", JAVASCRIPT / "fal.mjs", way, name, **env)
