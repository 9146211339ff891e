"""The processes of a server: who they are, what they have used."""

from dataclasses import dataclass

import psutil

# What Ray calls its own processes, by a word of their command line; the first that fits.
RAY_KINDS = {
    "ray::ServeController": "Serve's controller",
    "ray::ProxyActor": "Serve's proxy",
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
                        kind=_kind(" ".join(process.cmdline())),
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


def _kind(command: str) -> str:
    if command.startswith(REPLICA):
        application_and_deployment = command.removeprefix(REPLICA).split()[0].split(".")[0]
        return f"replica {application_and_deployment.rpartition(':')[2]}"
    if command.startswith("ray::IDLE"):
        return "idle workers"
    return next((kind for word, kind in RAY_KINDS.items() if word in command), "others")
