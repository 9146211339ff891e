"""Realtime sessions: what a message costs beside the model, and next to fal's own server."""

import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, peer, sessions, slow_reader
from benchmarks.machine import Machine
from benchmarks.processes import frozen
from benchmarks.realtime_client import Answer, ask, connected, first_answer, own_cost
from benchmarks.samples import Summary, summary
from benchmarks.server import NOTHING, Server, serving, settings_of
from benchmarks.serving import FAL_NAME, FUSED, FUSED_NAME, HAPROXY, SPLIT_NAME, without_haproxy
from benchmarks.stored import FOLDER
from benchmarks.task import PROMPTS, Task
from config.settings import ROOT

PATH = FOLDER / "realtime.json"
PROFILE = ROOT / "config" / "profiles" / "realtime.yaml"
PROFILE_NAME = "Glimpse, realtime profile"

WARM_UP = 5  # messages, at the start of each turn, that do not count
THREADS_TRIED_WITH = 20  # messages


@dataclass(frozen=True, slots=True)
class Plan:
    """Servers take `turns`, of so many messages, so that all of them see the machine fast and slow.
    `connections` are opened for the sake of opening them. `slow_reader_s` is less than the 40 s
    after which uvicorn, whose pings are not answered, ends the connection."""

    turns: int
    messages: int
    connections: int
    sessions: int
    sessions_s: float
    slow_reader_s: float


FULL = Plan(turns=6, messages=60, connections=100, sessions=64, sessions_s=40, slow_reader_s=30)
QUICK = Plan(turns=1, messages=20, connections=5, sessions=4, sessions_s=3, slow_reader_s=10)


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Seconds, of one message after the other on one connection. `overhead` is of each message the
    round trip less the model's own time; fal's app does not tell that."""

    name: str
    round_trip: Summary
    model: Summary | None
    overhead: Summary | None


@dataclass(frozen=True, slots=True)
class Connections:
    """Overheads in seconds: of the first message on a connection, from before it is opened, and of
    the second one."""

    name: str
    first: Summary
    second: Summary

    @property
    def ratio(self) -> float:
        return self.first.p50 / self.second.p50


@dataclass(frozen=True, slots=True)
class Results:
    """`client`: seconds of a round trip to a server that does nothing. By name of a server: many
    sessions at once, and one that does not read. `left_out` says why, by name."""

    machine: Machine
    minutes: float
    task: Task
    fal_threads: int
    client: Summary
    round_trips: list[RoundTrips]
    connections: list[Connections]
    sessions: dict[str, sessions.Figure]
    slow_reader: dict[str, slow_reader.Figure]
    left_out: dict[str, str] = field(default_factory=dict)

    def round_trips_of(self, name: str) -> RoundTrips | None:
        return next((each for each in self.round_trips if each.name == name), None)


def measure(config: Path, plan: Plan) -> Results:
    return asyncio.run(_measure(config, plan))


async def _measure(config: Path, plan: Plan) -> Results:
    began = time.monotonic()
    on = machine.describe()
    settings = settings_of(config)
    task = replace(Task.of(settings), steps=settings.realtime.num_inference_steps)
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        threads = await _best_threads(task)
        _tell(f"{FAL_NAME}, {threads} threads")
        servers = {FAL_NAME: stack.enter_context(peer.running(*FAL, task, threads))}
        for name, graph, environment in _glimpses(config, left_out):
            _tell(name)
            servers[name] = stack.enter_context(serving(graph, environment))
        for server in servers.values():
            answer = await first_answer(server, fields_of(task, 0))
        _tell("one message after the other")
        client = await own_cost(fields_of(task, 0), answer, plan.turns * plan.messages)
        trips = await _round_trips(servers, task, plan)
        figures: dict[str, Any] = {"connections": [], "sessions": {}, "slow_reader": {}}
        for name in (SPLIT_NAME, PROFILE_NAME):
            if name not in servers:
                continue
            with _alone(name, servers) as server:
                _tell(f"{name}: connections")
                figures["connections"].append(await _connections(name, server, task, plan))
                _tell(f"{name}: {plan.sessions} sessions")
                figures["sessions"][name] = await sessions.measure(
                    server.url, fields_of(task, 0), plan.sessions, plan.sessions_s
                )
                _tell(f"{name}: a slow reader")
                figures["slow_reader"][name] = await slow_reader.measure(server, plan.slow_reader_s)
    return Results(
        machine=on,
        minutes=(time.monotonic() - began) / 60,
        task=task,
        fal_threads=threads,
        client=client,
        round_trips=trips,
        **figures,
        left_out=left_out,
    )


FAL = ("fal", "fal_realtime_app")


def _glimpses(
    config: Path, left_out: dict[str, str]
) -> Iterator[tuple[str, Path, Mapping[str, str]]]:
    yield SPLIT_NAME, config, NOTHING
    yield FUSED_NAME, FUSED, NOTHING
    if why := without_haproxy():
        left_out[PROFILE_NAME] = why
        _tell(f"left out: {PROFILE_NAME}: {why}")
    else:
        yield PROFILE_NAME, PROFILE, HAPROXY


def fields_of(task: Task, seed: int) -> dict[str, Any]:
    return {"prompt": PROMPTS[0], "seed": seed, "num_inference_steps": task.steps}


async def _best_threads(task: Task) -> int:
    """With how many threads of torch fal's app answers soonest."""
    found = {}
    for threads in range(1, multiprocessing.cpu_count() + 1):
        with peer.running(*FAL, task, threads) as server:
            await first_answer(server, fields_of(task, 0))
            answers = await take_turn(server, task, range(THREADS_TRIED_WITH))
            found[threads] = statistics.median(each.seconds for each in answers)
    return min(found, key=lambda threads: found[threads])


async def _round_trips(servers: Mapping[str, Server], task: Task, plan: Plan) -> list[RoundTrips]:
    answers: dict[str, list[Answer]] = {name: [] for name in servers}
    for turn in range(plan.turns):
        seeds = range(turn * plan.messages, (turn + 1) * plan.messages)
        for name in servers:
            with _alone(name, servers) as server:
                answers[name] += await take_turn(server, task, seeds)
    return [_summarised(name, of_server) for name, of_server in answers.items()]


async def take_turn(server: Server, task: Task, seeds: Sequence[int]) -> list[Answer]:
    async with connected(server.url) as connection:
        for seed in range(WARM_UP):
            await ask(connection, fields_of(task, seed))
        return [await ask(connection, fields_of(task, seed)) for seed in seeds]


def _summarised(name: str, answers: Sequence[Answer]) -> RoundTrips:
    round_trip = summary([each.seconds for each in answers])
    told = [(each.seconds, each.model_s) for each in answers if each.model_s is not None]
    if not told:
        return RoundTrips(name, round_trip, None, None)
    return RoundTrips(
        name,
        round_trip,
        summary([model for _, model in told]),
        summary([seconds - model for seconds, model in told]),
    )


async def _connections(name: str, server: Server, task: Task, plan: Plan) -> Connections:
    first, second = [], []
    for seed in range(plan.connections):
        began = time.perf_counter()
        async with connected(server.url) as connection:
            answer = await ask(connection, fields_of(task, seed))
            first.append(time.perf_counter() - began - _model_s(answer))
            answer = await ask(connection, fields_of(task, seed))
            second.append(answer.seconds - _model_s(answer))
    return Connections(name, summary(first), summary(second))


def _model_s(answer: Answer) -> float:
    assert answer.model_s is not None, "Glimpse tells it"
    return answer.model_s


@contextmanager
def _alone(name: str, servers: Mapping[str, Server]) -> Iterator[Server]:
    """The others stand still: a server takes some of a core even when nobody asks anything."""
    with ExitStack() as stack:
        for other, server in servers.items():
            server.check_alive()
            if other != name:
                stack.enter_context(frozen(server.root))
        yield servers[name]


def _tell(what: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)
