"""What the figures were measured on."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from config.settings import ROOT

BUSY = 0.5  # load average, in processes, above which other work is likely to show in the figures


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str
    cores: int
    memory_gb: float
    python: str
    versions: dict[str, str]
    load_average: tuple[float, float, float]
    date: str
    commit: str


def describe() -> Machine:
    return Machine(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        memory_gb=psutil.virtual_memory().total / 1e9,
        python=platform.python_version(),
        versions={name: version(name) for name in ("torch", "diffusers", "transformers", "ray")},
        load_average=os.getloadavg(),
        date=datetime.now(UTC).isoformat(timespec="minutes"),
        commit=_commit(),
    )


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The commit that was measured; `+` where files that git knows had been changed since."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return commit + ("+" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=ROOT, text=True).strip()
