"""`python -m benchmarks recovery [NAME ...]`: what clients see when a process of the service dies
or hangs, or other settings are deployed, under load; whether load alone is taken for a fault; and
what it all costs. One JSON file each in benchmarks/results/recovery/, tables in
docs/reliability.md. What is there of the same code is not measured again; a fault goes on with the
round it was left at."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from benchmarks import isolation, machine, report
from benchmarks.recovery import cost, faults, redeploy, runs, tables, verdicts, wolf
from benchmarks.recovery.clients import Clients, Crowd
from benchmarks.recovery.cluster import Cluster, cluster_of
from benchmarks.recovery.faults import FAULTS, Fault
from benchmarks.results import Verdict
from benchmarks.server import serving, settings_of
from benchmarks.tables import verdicts_table
from benchmarks.task import PREVIEW_EVERY, Task, wanted
from config.settings import ROOT

PROFILE = ROOT / "config" / "profiles" / "two_denoisers.yaml"
NAMES = (*FAULTS, *runs.OTHERS)
CROWD, QUICK_CROWD = Crowd(streams=24, sessions=8), Crowd(streams=6, sessions=2)
WOLF_CROWD = Crowd(streams=16, sessions=8)  # the most that the other benchmarks ask for at once


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks recovery", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all of {', '.join(NAMES)}")
    parser.add_argument("--against", metavar="COMMIT", help="what cost is compared with")
    parser.add_argument("--minutes", type=float, default=10, help="of wolf")
    parser.add_argument("--pairs", type=int, default=10, help="of turns, of cost")
    parser.add_argument("--config", type=Path, default=PROFILE, help="of all but cost")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round, of few clients, for a look whether all works; nothing is written",
    )
    chosen = parser.parse_args(arguments)
    names = chosen.names or [name for name in NAMES if name != "cost" or chosen.against]
    if unknown := set(names) - set(NAMES):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}")
    if "cost" in names and chosen.against is None:
        parser.error("cost needs --against COMMIT")
    isolation.enter()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.quick:
            found = _measure(names, chosen, Path(folder))
        else:
            found = _measure(names, chosen, runs.FOLDER)
            report.write_recovery()
    if not all(verdict.met for verdict in found):
        sys.exit("not everything that was promised is met")


def _measure(names: Sequence[str], chosen: argparse.Namespace, folder: Path) -> list[Verdict]:
    found: list[Verdict] = []
    for name in names:
        if name in FAULTS:
            asyncio.run(_fault(name, chosen, folder))
        elif not runs.is_of(runs.find(name, folder), runs.code()):
            _tell(name)
            _other(name, chosen, folder)
        run = runs.find(name, folder)
        assert run is not None, "it has just been measured"
        print(tables.of(name, run), end="\n\n")
        found += verdicts.of(name, run)
    print(verdicts_table(found))
    return found


async def _fault(name: str, chosen: argparse.Namespace, folder: Path) -> None:
    fault: Fault = replace(FAULTS[name], rounds=1) if chosen.quick else FAULTS[name]
    crowd = QUICK_CROWD if chosen.quick else CROWD
    settings = settings_of(chosen.config).recovery
    run = runs.FaultRun(
        machine.describe(),
        runs.code(),
        crowd,
        settings.checkpoint_every_steps,
        settings.stall_s,
        rounds=[],
    )
    before = runs.find(name, folder)
    if isinstance(before, runs.FaultRun) and runs.is_of(before, run.code):
        run = before
    if len(run.rounds) >= fault.rounds:
        return
    async with _under_load(chosen.config, crowd) as (cluster, clients):
        _tell(f"{name}, from round {len(run.rounds) + 1} of {fault.rounds}")
        begun = crowd.streams // 2
        async for shots in faults.rounds(fault, len(run.rounds), cluster, clients, begun):
            run.rounds.append(shots)
            runs.save(name, run, folder)
            _tell(f"{name}: round {len(run.rounds)} of {fault.rounds}")


def _other(name: str, chosen: argparse.Namespace, folder: Path) -> None:
    about = machine.describe(), runs.code()
    run: runs.Run
    match name:
        case "redeploy":
            crowd = QUICK_CROWD if chosen.quick else CROWD
            run = runs.RedeployRun(*about, crowd, asyncio.run(_redeploy(chosen.config, crowd)))
        case "wolf":
            crowd = QUICK_CROWD if chosen.quick else WOLF_CROWD
            seconds = 60 * chosen.minutes
            run = runs.WolfRun(*about, crowd, asyncio.run(_wolf(chosen.config, crowd, seconds)))
        case _:
            plan = cost.Plan(chosen.pairs)
            run = runs.CostRun(*about, cost.measure(chosen.against, plan))
    runs.save(name, run, folder)


async def _redeploy(config: Path, crowd: Crowd) -> redeploy.Figure:
    async with _under_load(config, crowd) as (cluster, clients):
        return await redeploy.measure(cluster, clients)


async def _wolf(config: Path, crowd: Crowd, seconds: float) -> wolf.Figure:
    async with _under_load(config, crowd) as (cluster, clients):
        return await wolf.measure(cluster, clients, seconds)


@asynccontextmanager
async def _under_load(config: Path, crowd: Crowd) -> AsyncIterator[tuple[Cluster, Clients]]:
    """A server of its own, and clients that have begun."""
    task = Task.of(settings_of(config))
    with serving(config) as server:
        await server.first_picture(wanted(task, 0, PREVIEW_EVERY).fields())
        with cluster_of(server) as cluster:
            await cluster.until(lambda state: state.whole)
            clients = Clients(server.url, crowd, task.steps)
            await clients.make_references()
            async with clients.running():
                await clients.until_begun(crowd.streams // 2, faults.CHECKPOINT_STEP)
                yield cluster, clients


def _tell(what: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {what}", file=sys.stderr, flush=True)
