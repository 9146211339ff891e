"""https with the certificate of `make tls-dev`, for clients that speak nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from config.settings import ROOT
from tests.integration.application import Application


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["make", "tls-dev", f"TLS={folder}"], cwd=ROOT, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def application(certificate: Path) -> Iterator[Application]:
    config = yaml.safe_load((ROOT / "config/profiles/tls.yaml").read_text())
    config["http_options"].update(
        ssl_certfile=str(certificate), ssl_keyfile=str(certificate.with_name("key.pem"))
    )
    with Application(config, tuned=False) as running:
        yield running


def said(script: Path, application: Application, certificate: Path) -> list[str]:
    """What a script prints that knows the server from its environment alone."""
    port = httpx.URL(application.url).port
    env = {
        **os.environ,
        "FAL_KEY": "any",
        "FAL_RUN_HOST": f"localhost:{port}",
        "SSL_CERT_FILE": str(certificate),
    }
    done = subprocess.run(
        [sys.executable, script], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_fals_client_needs_nothing_but_its_environment(
    application: Application, certificate: Path
) -> None:
    lines = said(ROOT / "examples" / "fal_python_tls.py", application, certificate)
    assert (lines[0], lines[5]) == ("run: 128 x 128", "stream: final 20 of 20")
    assert [line.rpartition(" ")[2] for line in lines[6:]] == ["0", "1", "2"]  # realtime, by seed


def test_nor_do_its_other_calls(application: Application, certificate: Path) -> None:
    lines = said(Path(__file__).with_name("fal_over_tls.py"), application, certificate)
    calls = ["run_async", "stream_async", "realtime_async", "ws_connect_async", "ws_connect"]
    assert lines == [f"{call} final" for call in calls]


def test_curl_trusts_the_certificate_and_only_if_told_to(
    application: Application, certificate: Path
) -> None:
    url = application.url.replace("127.0.0.1", "localhost") + "/health"
    trusting = subprocess.run(["curl", "-sS", "--cacert", certificate, url], capture_output=True)
    assert trusting.returncode == 0 and b'"ready"' in trusting.stdout, trusting.stderr
    assert subprocess.run(["curl", "-sS", url], capture_output=True).returncode == 60


def test_the_key_of_the_certificate_is_its_owners_alone(certificate: Path) -> None:
    assert certificate.with_name("key.pem").stat().st_mode & 0o077 == 0
