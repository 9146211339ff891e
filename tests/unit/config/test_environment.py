"""Variables that a profile needs: `make serve` sets them, and Ray Serve knows them."""

import inspect
import subprocess
from pathlib import Path

import pytest
from ray.serve._private import constants

from config.settings import ROOT

FILES = sorted((ROOT / "config" / "profiles").glob("*.env"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_serve_reads_every_variable(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    known = inspect.getsource(constants)
    for line in lines:
        name, value = line.split("=")
        assert f'"{name}"' in known and value


def test_make_sets_those_of_the_config_that_it_serves() -> None:
    def commands(config: str) -> str:
        make = ["make", "--dry-run", "--old-file=.venv/.installed", "serve", f"CONFIG={config}"]
        return subprocess.check_output(make, cwd=ROOT, text=True)

    assert "config/profiles/realtime.env" in commands("config/profiles/realtime.yaml")
    assert ".env" not in commands("serve_config.yaml")
