"""From `make serve` to the first picture, and where the time goes."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.processes import Used, cpu_by_kind, output_of, used
from benchmarks.server import Server, serving
from benchmarks.stage_start import STAGES, Part

DEPLOYMENTS = ("Ingress", *STAGES)
REQUEST = {"prompt": "a lighthouse at dawn", "seed": 1}

# What the server says when a phase ends.
MILESTONES = {
    "Ray is up": "Started a local Ray instance",
    "Serve's controller and proxy are up": "Started Serve in namespace",
    "the application is built": "Imported and built app",
    "every stage is ready": "every stage is ready",
}
CONSTRUCTOR_BEGINS = "Started initializing replica"
CONSTRUCTOR_ENDS = "Finished initializing replica"


@dataclass(frozen=True, slots=True)
class ReplicaStart:
    """Seconds from the command: its process is there, its constructor begins, and has ended."""

    deployment: str
    process: float
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the command. `cpu_s` is by kind of process, up to the first picture;
    `machine_cpu_s` is all the CPU time that the machine spent meanwhile, others' work included.
    """

    milestones: dict[str, float]
    replicas: list[ReplicaStart]
    first_picture: float
    cpu_s: dict[str, float]
    machine_cpu_s: float


@dataclass(frozen=True, slots=True)
class Figure:
    """`starts` in the order they were made; `stages` alone in a fresh process, part by part."""

    starts: list[Start]
    stages: dict[str, list[Part]]


def measure(config: Path, repetitions: int = 3) -> Figure:
    # The page cache is warm after the stages; the figure is of a warm start.
    stages = {stage: _stage_alone(stage, config) for stage in STAGES}
    return Figure([_start(config) for _ in range(repetitions)], stages)


def _start(config: Path) -> Start:
    busy = _machine_cpu_s()
    with serving(config) as server:
        asyncio.run(server.first_picture(REQUEST))
        first_picture = time.time() - server.started
        processes = used(server.root)
        return Start(
            milestones={
                name: seconds
                for name, text in MILESTONES.items()
                if (seconds := server.logged(text)) is not None
            },
            replicas=[_replica_start(each, server, processes) for each in DEPLOYMENTS],
            first_picture=first_picture,
            cpu_s=cpu_by_kind(processes),
            machine_cpu_s=_machine_cpu_s() - busy,
        )


def _replica_start(deployment: str, server: Server, processes: list[Used]) -> ReplicaStart:
    created = next(each.started for each in processes if each.kind == f"replica {deployment}")
    begins = server.replica_logged(deployment, CONSTRUCTOR_BEGINS)
    ends = server.replica_logged(deployment, CONSTRUCTOR_ENDS)
    assert begins is not None and ends is not None, "Serve logs both"
    return ReplicaStart(deployment, created - server.started, begins, ends)


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait


def _stage_alone(stage: str, config: Path) -> list[Part]:
    command = [sys.executable, "-m", "benchmarks.stage_start", stage, str(config)]
    return [Part(**part) for part in json.loads(output_of(command).splitlines()[-1])]
