"""What is measured, a JSON file each. What is there of the same code is not measured again."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks import stored
from benchmarks.machine import Machine
from benchmarks.recovery import cost, redeploy, wolf
from benchmarks.recovery.clients import Crowd
from benchmarks.recovery.shot import Shot
from config.settings import ROOT

FOLDER = stored.FOLDER / "recovery"
# A commit of anything else (results, prose, tests) does not change what was measured.
MEASURED = ("config", "deployments", "glimpse", "graphs", "models", "serve_config.yaml")


@dataclass(frozen=True, slots=True)
class FaultRun:
    """`code` is the newest commit of what is measured. `rounds` are added one by one."""

    machine: Machine
    code: str
    crowd: Crowd
    checkpoint_every_steps: int
    stall_s: float
    rounds: list[list[Shot]]


@dataclass(frozen=True, slots=True)
class RedeployRun:
    machine: Machine
    code: str
    crowd: Crowd
    figure: redeploy.Figure


@dataclass(frozen=True, slots=True)
class WolfRun:
    machine: Machine
    code: str
    crowd: Crowd
    figure: wolf.Figure


@dataclass(frozen=True, slots=True)
class CostRun:
    machine: Machine
    code: str
    figure: cost.Figure


Run: TypeAlias = FaultRun | RedeployRun | WolfRun | CostRun
OTHERS: dict[str, type[RedeployRun] | type[WolfRun] | type[CostRun]] = {
    "redeploy": RedeployRun,
    "wolf": WolfRun,
    "cost": CostRun,
}


def find(name: str, folder: Path = FOLDER) -> Run | None:
    kind: type[Run] = OTHERS.get(name, FaultRun)
    return stored.find(kind, path(name, folder))


def save(name: str, run: Run, folder: Path = FOLDER) -> None:
    stored.save(run, path(name, folder))


def path(name: str, folder: Path) -> Path:
    return folder / f"{name}.json"


def code() -> str:
    """`+` where it was changed since: then nothing counts as measured."""
    git = ["git", "-C", str(ROOT)]
    log = [*git, "log", "-1", "--format=%h", "--", *MEASURED]
    changed = [*git, "status", "--porcelain", "--untracked-files=no", "--", *MEASURED]
    commit = subprocess.check_output(log, text=True).strip()
    return commit + ("+" if subprocess.check_output(changed) else "")


def is_of(run: Run | None, commit: str) -> bool:
    return run is not None and run.code == commit and not commit.endswith("+")
