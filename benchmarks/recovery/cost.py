"""What all this costs while nothing fails: this commit against another one, both served, in turns.
The one whose turn it is not stands still."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from benchmarks import load
from benchmarks.load import Load
from benchmarks.processes import frozen, kind_of
from benchmarks.realtime import take_turn
from benchmarks.recovery.statistics import Interval, interval, ratio_interval
from benchmarks.server import Server, serving, settings_of
from benchmarks.task import PREVIEW_EVERY, Task, wanted
from config.settings import ROOT

GRAPHS = {"split": Path("serve_config.yaml"), "fused": Path("config/profiles/fused.yaml")}
WARM_UP = Load(8, 1, PREVIEW_EVERY)


@dataclass(frozen=True, slots=True)
class Plan:
    """`one`, `eight`: pictures that each of so many clients makes in a turn. The messages of a
    session are spread over many short turns, because the machine's speed changes within seconds by
    more than the difference that is measured."""

    pairs: int
    one: int = 6
    eight: int = 3
    sessions: int = 16
    messages: int = 10


@dataclass(frozen=True, slots=True)
class Turn:
    """Of one server in one pair: pictures a second, and the median of a message's round trip less
    the model's own time, in seconds."""

    one: float
    eight: float
    overhead_s: float


@dataclass(frozen=True, slots=True)
class Pair:
    ours: Turn
    theirs: Turn


@dataclass(frozen=True, slots=True)
class Figure:
    """By graph; `against` is the other commit."""

    against: str
    graphs: dict[str, list[Pair]]


def one_client(pairs: list[Pair]) -> Interval:
    return ratio_interval([pair.ours.one / pair.theirs.one for pair in pairs])


def eight_clients(pairs: list[Pair]) -> Interval:
    return ratio_interval([pair.ours.eight / pair.theirs.eight for pair in pairs])


def overhead_s(pairs: list[Pair]) -> Interval:
    return interval([pair.ours.overhead_s - pair.theirs.overhead_s for pair in pairs])


def measure(against: str, plan: Plan) -> Figure:
    graphs = {}
    with _checkout(against) as (root, commit):
        for name, config in GRAPHS.items():
            with ExitStack() as stack:
                print(f"{datetime.now():%H:%M:%S} {name}", file=sys.stderr, flush=True)
                ours = stack.enter_context(serving(ROOT / config))
                theirs = stack.enter_context(serving(root / config, root=root))
                graphs[name] = _pairs(ours, theirs, ROOT / config, plan)
    return Figure(commit, graphs)


@contextmanager
def _checkout(commit: str) -> Iterator[tuple[Path, str]]:
    """The commit's files, in a folder of their own, and its short name."""
    git = ["git", "-C", str(ROOT)]
    name = subprocess.check_output([*git, "rev-parse", "--short", commit], text=True).strip()
    with tempfile.TemporaryDirectory(prefix="glimpse-base-") as folder:
        root = Path(folder) / name
        subprocess.check_call([*git, "worktree", "add", "--quiet", "--detach", str(root), commit])
        try:
            yield root, name
        finally:
            subprocess.check_call([*git, "worktree", "remove", "--force", str(root)])


def _pairs(ours: Server, theirs: Server, config: Path, plan: Plan) -> list[Pair]:
    settings = settings_of(config)
    task = Task.of(settings)
    sketch = replace(task, steps=settings.realtime.num_inference_steps)
    for server in (ours, theirs):
        asyncio.run(server.first_picture(wanted(task, 0, PREVIEW_EVERY).fields()))
        load.warm_up(server.url, WARM_UP)
    replicas = {server: _replicas(server) for server in (ours, theirs)}
    pairs = []
    for index in range(plan.pairs):
        # Each goes first in every other pair, should the first be better or worse off.
        order = (ours, theirs) if index % 2 else (theirs, ours)
        turns = _turns(order, task, sketch, plan)
        pairs.append(Pair(turns[ours], turns[theirs]))
    for server, before in replicas.items():
        if _replicas(server) != before:
            raise RuntimeError("a replica was replaced meanwhile: the figures are of another thing")
    return pairs


def _turns(
    order: tuple[Server, Server], task: Task, sketch: Task, plan: Plan
) -> Mapping[Server, Turn]:
    speeds: dict[Server, tuple[float, float]] = {}
    for server in order:
        with _alone(server, order):
            one = load.measure(server.url, task, Load(1, plan.one, PREVIEW_EVERY))
            eight = load.measure(server.url, task, Load(8, plan.eight, PREVIEW_EVERY))
        speeds[server] = one.pictures_per_s, eight.pictures_per_s
    overheads: dict[Server, list[float]] = {server: [] for server in order}
    for _ in range(plan.sessions):
        for server in order:
            with _alone(server, order):
                answers = asyncio.run(take_turn(server, sketch, range(plan.messages)))
            overheads[server] += [answer.seconds - (answer.model_s or 0) for answer in answers]
    return {server: Turn(*speeds[server], statistics.median(overheads[server])) for server in order}


@contextmanager
def _alone(server: Server, both: tuple[Server, Server]) -> Iterator[None]:
    """The other one stands still."""
    [other] = [each for each in both if each is not server]
    other.check_alive()
    with frozen(other.root):
        yield


def _replicas(server: Server) -> set[int]:
    children = server.root.children(recursive=True)
    return {child.pid for child in children if kind_of(child).startswith("replica ")}
