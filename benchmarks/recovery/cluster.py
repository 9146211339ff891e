"""The processes of one server, found below its own command and never by name alone; and what Serve
says of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import psutil

from benchmarks.joined import Joined, joined
from benchmarks.processes import kind_of
from benchmarks.recovery.state import State
from benchmarks.server import READY_TIMEOUT_S, Server

POLL_S = 0.2
# Those whose end or change of process is a restart.
REPLICA = "replica "
WATCHED = (REPLICA, "Serve's controller", "Serve's proxy")


@dataclass(slots=True)
class Sightings:
    """Seconds after `at`, a fault, at which something was first seen, to `POLL_S`: its victim gets
    no more work, a new process of its kind is there, and that works."""

    at: float
    out_of_routing_s: float | None = None
    new_process_s: float | None = None
    running_s: float | None = None


class Cluster:
    def __init__(self, server: Server, state: Joined) -> None:
        self.server = server
        self._state = state
        self._asking = asyncio.Lock()

    async def state(self) -> State:
        """Waits while there is no controller to ask."""
        async with self._asking:
            return State.of(await asyncio.to_thread(self._state.ask))

    def processes(self, kind: str) -> list[psutil.Process]:
        """Those that live, oldest first; `kind` as in `benchmarks.processes`."""
        return [process for named, process in self._named() if named == kind]

    def pids(self) -> dict[int, str]:
        """Whatever may not restart by itself: its kind, by process id."""
        return {process.pid: kind for kind, process in self._named() if kind.startswith(WATCHED)}

    def _named(self) -> Iterator[tuple[str, psutil.Process]]:
        self.server.check_alive()
        children = self.server.root.children(recursive=True)
        for process in sorted(children, key=lambda process: (process.create_time(), process.pid)):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                yield kind_of(process), process

    async def until(self, reached: Callable[[State], bool]) -> State:
        """Raises `TimeoutError` where it never comes to be."""
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not reached(state := await self.state()):
                self.server.check_alive()
                await asyncio.sleep(POLL_S)
        return state

    @asynccontextmanager
    async def watching(self, victim: psutil.Process) -> AsyncIterator[Sightings]:
        """Sees what becomes of a process, that lives until a fault in the block, `Sightings.at`."""
        kind = kind_of(victim)
        before = {process.pid for process in self.processes(kind)}
        seen = Sightings(time.time())
        watches = [asyncio.create_task(self._watch_processes(kind, before, seen))]
        if kind.startswith(REPLICA):
            deployment = kind.removeprefix(REPLICA)
            watches.append(
                asyncio.create_task(self._watch_state(deployment, victim.pid, before, seen))
            )
        try:
            yield seen
            for watch in watches:
                if watch.done():
                    watch.result()  # one that has failed would see nothing
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.wait(watches)

    async def _watch_processes(self, kind: str, before: set[int], seen: Sightings) -> None:
        while seen.new_process_s is None:
            found = await asyncio.to_thread(self.processes, kind)
            if {process.pid for process in found} - before:
                seen.new_process_s = time.time() - seen.at
            await asyncio.sleep(POLL_S)

    async def _watch_state(
        self, deployment: str, victim: int, before: set[int], seen: Sightings
    ) -> None:
        while seen.running_s is None:
            running = (await self.state()).deployments[deployment].running
            if seen.out_of_routing_s is None and victim not in running:
                seen.out_of_routing_s = time.time() - seen.at
            if running - before:
                seen.running_s = time.time() - seen.at
            await asyncio.sleep(POLL_S)


@contextmanager
def cluster_of(server: Server) -> Iterator[Cluster]:
    """Of a server that is up."""
    with joined(server, "benchmarks.recovery.state") as state:
        yield Cluster(server, state)
