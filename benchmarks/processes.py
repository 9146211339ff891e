"""The processes of a server: who they are, what they have used."""

import multiprocessing
import os
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psutil

from config.settings import ROOT

# What Ray calls its own processes, by a word of their command line; the first that fits.
RAY_KINDS = {
    "ray::ServeController": "Serve's controller",
    "ray::ProxyActor": "Serve's proxy",
    "ray::HAProxyManager": "Serve's proxy",
    "haproxy": "Serve's proxy",
    "ray::DashboardAgent": "Ray's agents",
    "ray::RuntimeEnvAgent": "Ray's agents",
    "ray-dashboard": "Ray's dashboard",
    "dashboard.py": "Ray's dashboard",
    "ray.dashboard": "Ray's dashboard",
    "multiprocessing": "Ray's dashboard",  # it forks its parts from a server of its own
    "gcs_server": "Ray's core",
    "raylet": "Ray's core",
    "monitor.py": "Ray's monitors",
    "serve": "the command itself",
}
REPLICA = "ray::ServeReplica:"
WORKER_NICENESS = 15  # of Ray's workers
SAMPLE_S = 3.0  # reading the memory of thirty processes takes a tenth of a second of one core


@dataclass(frozen=True, slots=True)
class Used:
    """By one process, up to now: when it started (seconds of the epoch), its CPU seconds, and its
    memory in bytes. `pss` shares out what several processes map among them; `rss` counts it for
    each.
    """

    kind: str
    started: float
    cpu_s: float
    niceness: int
    pss: int
    rss: int


def used(root: psutil.Process) -> list[Used]:
    """By a process and all below it."""
    found = []
    for process in [root, *root.children(recursive=True)]:
        try:
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_full_info()
                found.append(
                    Used(
                        kind=kind_of(process),
                        started=process.create_time(),
                        cpu_s=times.user + times.system,
                        niceness=process.nice(),
                        pss=memory.pss,
                        rss=memory.rss,
                    )
                )
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def cpu_by_kind(processes: Sequence[Used]) -> dict[str, float]:
    """CPU seconds."""
    seconds: dict[str, float] = defaultdict(float)
    for process in processes:
        seconds[process.kind] += process.cpu_s
    return dict(seconds)


def kind_of(process: psutil.Process) -> str:
    return _kind(" ".join(process.cmdline()))


def _kind(command: str) -> str:
    if command.startswith(REPLICA):
        application_and_deployment = command.removeprefix(REPLICA).split()[0].split(".")[0]
        return f"replica {application_and_deployment.rpartition(':')[2]}"
    if command.startswith("ray::IDLE"):
        return "idle workers"
    return next((kind for word, kind in RAY_KINDS.items() if word in command), "others")


class Peak:
    """The most memory, in bytes of PSS, that was seen of all processes together."""

    def __init__(self) -> None:
        self.pss = 0

    def look(self, root: psutil.Process) -> None:
        """At a process and all below it."""
        try:
            processes = used(root)
        except psutil.NoSuchProcess:  # it has just ended
            return
        self.pss = max(self.pss, sum(process.pss for process in processes))


@contextmanager
def peak_memory(root: psutil.Process, peak: Peak | None = None) -> Iterator[Peak]:
    """Looks every few seconds, and once in the end."""
    peak = Peak() if peak is None else peak
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            peak.look(root)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
        peak.look(root)
    finally:
        over.set()
        watching.join()


def output_of(command: Sequence[str], peak: Peak | None = None) -> str:
    """What a command of this repository prints. Raises `RuntimeError`, with the end of its errors,
    where it fails."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with peak_memory(psutil.Process(process.pid), peak):
        output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} has failed:\n{errors[-3000:]}")
    return output


def as_nice_as_workers(command: Sequence[str]) -> list[str]:
    """The command with the niceness that Ray gives its workers."""
    more = WORKER_NICENESS - os.getpriority(os.PRIO_PROCESS, 0)
    return ["nice", "-n", str(max(0, more)), *command]


@contextmanager
def working(
    work: Callable[..., None], *arguments: object, niceness: int = WORKER_NICENESS
) -> Iterator[tuple[Connection, psutil.Process]]:
    """A process of its own that does `work(connection, *arguments)`, and is to end when it gets
    None. As nice as what it is compared with, so that other work on the machine takes from both
    alike.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share this process's threads
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(work, theirs, niceness, *arguments))
    process.start()
    theirs.close()  # if the process dies, waiting for its answer ends
    assert process.pid is not None
    try:
        yield ours, psutil.Process(process.pid)
    finally:
        with suppress(BrokenPipeError):
            ours.send(None)
        process.join()


def _work(
    work: Callable[..., None], connection: Connection, niceness: int, *arguments: object
) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))
    work(connection, *arguments)


@contextmanager
def frozen(root: psutil.Process) -> Iterator[None]:
    """A process and all below it stand still: a server takes some of a core even when nobody asks
    anything of it."""
    processes = [root, *root.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()
