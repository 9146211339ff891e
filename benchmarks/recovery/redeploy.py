"""Other settings are deployed under load: is anybody refused, or cut?"""

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.recovery.clients import Clients
from benchmarks.recovery.cluster import POLL_S, Cluster
from benchmarks.recovery.seen import counted, longest_silence_s, of_end
from benchmarks.recovery.state import State
from benchmarks.server import CONFIG, Server, settings_of
from config.settings import ROOT
from graphs import lifecycle

MARGIN_S = 300.0  # of the new replicas, which start before the old ones drain


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds after `serve deploy` has returned. `deployed_s`: every new replica serves;
    `drained_s`: the last old one is gone. `streams` and `messages` count how those ended that were
    there or came meanwhile, `closed_s` when sessions were cut."""

    deployed_s: float
    drained_s: float
    streams: dict[str, int]
    messages: dict[str, int]
    closed_s: list[float]
    longest_silence_s: float
    compared: int
    largest_difference: int

    @property
    def refused(self) -> int:
        return of_end(self.streams, "refused") + of_end(self.messages, "refused")

    @property
    def lost(self) -> int:
        return sum(self.streams.values()) - of_end(self.streams, "final")


async def measure(cluster: Cluster, clients: Clients) -> Figure:
    """Until the old replicas are gone; those with open sessions take the whole drain."""
    before = await cluster.until(lambda state: state.whole)
    old = {pid for each in before.deployments.values() for pid in each.replicas}
    changed = _changed(cluster.server.folder)
    await asyncio.to_thread(_deploy, cluster.server, before.dashboard, changed)
    drain_s = lifecycle.of_edges(settings_of(changed))["graceful_shutdown_timeout_s"]
    at = time.time()
    deployed_s: float | None = None
    async with asyncio.timeout(drain_s + MARGIN_S):
        while True:
            state = await cluster.state()
            if deployed_s is None and serves_anew(state, before):
                deployed_s = time.time() - at
            known = {pid for each in state.deployments.values() for pid in each.replicas}
            if deployed_s is not None and not known & old:
                break
            await asyncio.sleep(POLL_S)
    drained_s = time.time() - at
    while any(stream.end is None for stream in clients.in_flight(at)):
        await asyncio.sleep(POLL_S)
    return _figure(clients, at, deployed_s, drained_s)


def serves_anew(state: State, before: State) -> bool:
    """Whether every deployment has its full count of new replicas."""
    return all(
        name in state.deployments
        and len(state.deployments[name].running - old.replicas.keys()) >= old.target
        for name, old in before.deployments.items()
    )


def _figure(clients: Clients, at: float, deployed_s: float, drained_s: float) -> Figure:
    streams = [each for each in clients.streams if each.ended is not None and each.ended > at]
    messages = [each for each in clients.messages if each.ended is not None and each.ended > at]
    differences = [
        difference
        for difference in (
            *(each.difference for each in streams),
            *(each.difference for each in messages),
        )
        if difference is not None
    ]
    return Figure(
        deployed_s=deployed_s,
        drained_s=drained_s,
        streams=counted(streams),
        messages=counted(messages),
        closed_s=sorted(
            each.ended - at for each in messages if each.end == "cut" and each.ended is not None
        ),
        longest_silence_s=longest_silence_s(clients.streams, at, time.time()),
        compared=len(differences),
        largest_difference=max(differences, default=0),
    )


def _changed(folder: Path) -> Path:
    """What runs, with another value in `args`: every deployment has to start anew."""
    fields: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_text())
    ingress = fields["applications"][0]["args"].setdefault("ingress", {})
    ingress["ping_interval_s"] = 9
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def _deploy(server: Server, dashboard: str, config: Path) -> None:
    command = Path(sys.executable).parent / "serve"
    subprocess.run(
        [command, "deploy", "--address", dashboard, config],
        cwd=ROOT,
        env=os.environ | server.environment,
        check=True,
        capture_output=True,
    )
