"""Ray's own ports: `ray start --head` with config/serve.env, then `serve deploy`, as
docs/security.md has it. Who lacks the token gets nothing from them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from config.keys import create
from config.settings import ROOT
from tests.integration.application import BIN, Application

QUICK = {"prompt": "a house", "num_inference_steps": 1, "preview_every": 0}
OF_THE_FILE = {"RAY_AUTH_TOKEN": ""}  # so Ray looks for the file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a user whose token Ray has made, with the rights that Ray gives it."""
    home = tmp_path_factory.mktemp("home")
    make = ["sh", "-c", 'umask 022; exec "$0" get-auth-token --generate', str(BIN / "ray")]
    env = {**os.environ, **OF_THE_FILE, "HOME": str(home)}
    subprocess.run(make, env=env, check=True, capture_output=True)
    assert token_file(home).stat().st_mode & 0o777 == 0o644
    return home


def token_file(home: Path) -> Path:
    return home / ".ray" / "auth_token"


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return create(home / "keys.json", "web", {})


@pytest.fixture(scope="module")
def application(home: Path, key: str) -> Iterator[Application]:
    config = yaml.safe_load((ROOT / "config/profiles/fused.yaml").read_text())
    config["applications"][0]["args"] = {"access": {"keys_file": str(home / "keys.json")}}
    env = {**OF_THE_FILE, "HOME": str(home)}
    with Application(config, env=env, dashboard=True) as running:
        yield running


def test_it_serves_who_has_a_key(application: Application, key: str) -> None:
    assert httpx.post(application.url, json=QUICK).status_code == 401
    headers = {"authorization": f"Key {key}"}
    answer = httpx.post(application.url, json=QUICK, headers=headers, timeout=60)
    assert answer.status_code == 200


def test_the_token_is_its_owners_alone(application: Application, home: Path) -> None:
    assert token_file(home).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/jobs/"),
        ("POST", "/api/jobs/"),
        ("GET", "/api/serve/applications/"),
        ("PUT", "/api/serve/applications/"),
        ("DELETE", "/api/serve/applications/"),
        ("GET", "/api/v0/actors"),
        ("GET", "/nodes?view=summary"),
        ("GET", "/api/v0/logs"),
    ],
)
def test_the_dashboard_asks_for_the_token(
    application: Application, home: Path, method: str, path: str
) -> None:
    def status(headers: dict[str, str]) -> int:
        url = f"{application.dashboard}{path}"
        return httpx.request(method, url, headers=headers, timeout=60).status_code

    assert status({}) == 401
    assert status({"authorization": "Bearer " + "0" * 64}) == 403
    if method == "GET":
        assert status({"authorization": f"Bearer {token_file(home).read_text()}"}) not in (401, 403)


STRANGER = """
import ray
ray.init({address!r}, log_to_driver=False)
print("joined", ray.get(ray.remote(lambda: 1).remote()))
"""


def test_a_stranger_cannot_run_code(application: Application) -> None:
    """Neither without a token nor with another one. Ray tries for 20 seconds, so both at once."""
    strangers = [
        subprocess.Popen(
            [sys.executable, "-c", STRANGER.format(address=application.address)],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for env in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 64})
    ]
    for stranger in strangers:
        output, errors = stranger.communicate(timeout=300)
        assert stranger.returncode != 0
        assert "joined" not in output
        assert "token" in errors, errors
