"""Variables for Ray's processes: Ray Serve knows them, and `make serve` sets them."""

import inspect
import subprocess
from pathlib import Path

import pytest
from ray._private.authentication import authentication_token_setup
from ray.serve._private import constants

from config.settings import ROOT
from tests.variables import variables

FOR_ALL = ROOT / "config" / "serve.env"
REALTIME = ROOT / "config" / "profiles" / "realtime.yaml"


@pytest.mark.parametrize("path", [FOR_ALL, REALTIME.with_suffix(".env")], ids=lambda it: it.stem)
def test_serve_reads_every_variable(path: Path) -> None:
    known = inspect.getsource(constants) + inspect.getsource(authentication_token_setup)
    for name, value in variables(path).items():
        assert f'"{name}"' in known and value


@pytest.mark.parametrize(
    ("config", "files"),
    [
        (ROOT / "serve_config.yaml", [FOR_ALL]),
        (REALTIME, [FOR_ALL, REALTIME.with_suffix(".env")]),
    ],
    ids=lambda it: getattr(it, "stem", None),
)
def test_make_sets_those_for_all_and_those_of_the_config(config: Path, files: list[Path]) -> None:
    make = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.installed", "serve"]
    config_ = f"CONFIG={config.relative_to(ROOT)}"
    serve = subprocess.check_output([*make, config_], cwd=ROOT, text=True).splitlines()[-1]
    before, command, _ = serve.partition(".venv/bin/serve run")
    assert command
    printed = subprocess.check_output(["bash", "-c", f"{before} env"], cwd=ROOT, text=True)
    wanted = {name: value for path in files for name, value in variables(path).items()}
    assert {f"{name}={value}" for name, value in wanted.items()} <= set(printed.splitlines())
    assert ("RAY_SERVE_ENABLE_HA_PROXY=1" in printed) == (config == REALTIME)
