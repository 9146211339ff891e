"""The faults, and how they are brought about: under load, one after another, each when what the
one before left is whole again."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from benchmarks.recovery.clients import Clients
from benchmarks.recovery.cluster import Cluster, Sightings
from benchmarks.recovery.seen import Message, Stream, moves
from benchmarks.recovery.shot import Replaced, Shot, Signal, shot
from benchmarks.recovery.state import State
from benchmarks.server import READY_TIMEOUT_S

CHECKPOINT_STEP = 5  # the last by which a picture has a checkpoint
STOPPED_S = 60.0
POLL_S = 0.1
DENOISER = "replica Denoiser"


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` of the victim as in `benchmarks.processes`. `alone`: there is one replica of it.
    `promised`: that nobody loses anything; if not, it is told what is lost. `decoding`: it comes
    when a stream has made its last step, and waits for its picture."""

    what: str
    kind: str
    signal: Signal
    rounds: int
    alone: bool = True
    promised: bool = True
    decoding: bool = False


FAULTS = {
    "denoiser_kill": Fault("SIGKILL of a Denoiser", DENOISER, "SIGKILL", 10, alone=False),
    "denoiser_stop": Fault(
        f"SIGSTOP of a Denoiser for {STOPPED_S:.0f} s", DENOISER, "SIGSTOP", 3, alone=False
    ),
    "text_encoder_kill": Fault("SIGKILL of the TextEncoder", "replica TextEncoder", "SIGKILL", 3),
    "preview_decoder_kill": Fault(
        "SIGKILL of the PreviewDecoder", "replica PreviewDecoder", "SIGKILL", 3
    ),
    "image_codec_kill": Fault(
        "SIGKILL of the ImageCodec", "replica ImageCodec", "SIGKILL", 3, decoding=True
    ),
    "controller_kill": Fault(
        "SIGKILL of Serve's controller", "Serve's controller", "SIGKILL", 3, alone=False
    ),
    "proxy_kill": Fault("SIGKILL of Serve's proxy", "Serve's proxy", "SIGKILL", 3, promised=False),
    "ingress_kill": Fault(
        "SIGKILL of the only Ingress", "replica Ingress", "SIGKILL", 3, promised=False
    ),
}


async def rounds(
    fault: Fault, first: int, cluster: Cluster, clients: Clients, begun: int
) -> AsyncIterator[list[Shot]]:
    """Each round is the fault, and then the death of a denoiser: is that one replaced, too? A fault
    is brought about when at least `begun` streams have passed their first checkpoint."""
    for turn in range(first, fault.rounds):
        shots = []
        for each in (fault, FAULTS["denoiser_kill"]):
            await cluster.until(lambda state: state.whole)
            shots.append(await _shoot(each, turn, cluster, clients, begun))
        yield shots


async def _shoot(fault: Fault, turn: int, cluster: Cluster, clients: Clients, begun: int) -> Shot:
    processes = cluster.processes(fault.kind)
    victim = processes[turn % len(processes)]
    async with cluster.watching(victim) as seen:
        await clients.until_begun(begun, CHECKPOINT_STEP, decoding=fault.decoding)
        seen.at = time.time()
        if fault.signal == "SIGKILL":
            victim.kill()
        else:
            victim.suspend()
            await asyncio.sleep(STOPPED_S)
            with suppress(psutil.NoSuchProcess):
                victim.resume()
        await _until_whole(cluster, victim, seen)
        served_s = await _until_served(cluster, clients, seen.at)
    replaced = Replaced(seen.out_of_routing_s, seen.new_process_s, seen.running_s, served_s)
    moved = moves(cluster.server.worker_logs(), seen.at)
    return shot(
        fault.kind, fault.signal, seen.at, replaced, clients.streams, clients.messages, moved
    )


async def _until_whole(cluster: Cluster, victim: psutil.Process, seen: Sightings) -> None:
    def over(state: State) -> bool:
        if _lives(victim):  # it was stopped, and nobody has noticed
            return state.whole
        # Serve may call RUNNING what is dead.
        known = {pid for each in state.deployments.values() for pid in each.replicas}
        return state.whole and victim.pid not in known and seen.new_process_s is not None

    await cluster.until(over)


async def _until_served(cluster: Cluster, clients: Clients, at: float) -> float:
    """Until everyone has ended who is in flight now that all is whole, and somebody was served who
    came later. Seconds after the fault of the first picture that was asked for after it."""
    whole = time.time()
    in_flight: list[Stream | Message] = [*clients.in_flight(whole), *clients.speaking(whole)]
    async with asyncio.timeout(READY_TIMEOUT_S):
        while any(each.end is None for each in in_flight) or not _served(clients.streams, whole):
            cluster.server.check_alive()
            await asyncio.sleep(POLL_S)
    return min(_served(clients.streams, at)) - at


def _served(streams: Sequence[Stream], since: float) -> list[float]:
    """When streams that began later than that had their pictures."""
    return [
        stream.ended
        for stream in streams
        if stream.began > since and stream.end == "final" and stream.ended is not None
    ]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
