"""The heaviest load of the benchmarks on a machine that others keep busy, too: does anything take a
slow replica for a dead one?"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.recovery.clients import Clients
from benchmarks.recovery.cluster import Cluster
from benchmarks.recovery.seen import counted, longest_silence_s, moves

BUSY_LOOPS = 4
LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Figure:
    """`restarted` names the kind of each process that was there and is no more."""

    seconds: float
    busy_loops: int
    restarted: list[str]
    moves: int
    streams: dict[str, int]
    messages: dict[str, int]
    longest_silence_s: float


async def measure(cluster: Cluster, clients: Clients, seconds: float) -> Figure:
    with _busy():
        at = time.time()
        before, restarted = cluster.pids(), []
        while time.time() < at + seconds:
            await asyncio.sleep(LOOK_S)
            now = await asyncio.to_thread(cluster.pids)
            restarted += [kind for pid, kind in before.items() if pid not in now]
            before = now
        until = time.time()
    streams = [each for each in clients.streams if each.ended is not None and each.ended > at]
    return Figure(
        seconds=seconds,
        busy_loops=BUSY_LOOPS,
        restarted=restarted,
        moves=len(moves(cluster.server.worker_logs(), at)),
        streams=counted(streams),
        messages=counted(each for each in clients.messages if (each.ended or 0) > at),
        longest_silence_s=longest_silence_s(clients.streams, at, until),
    )


@contextmanager
def _busy() -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command) for _ in range(BUSY_LOOPS)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
