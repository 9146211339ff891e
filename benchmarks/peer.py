"""The peers, each in its own environment and with its own server."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import environments
from benchmarks.ports import free_ports
from benchmarks.server import Server, serving_peer
from benchmarks.task import Task


@contextmanager
def running(peer: str, app: str, task: Task, threads: int) -> Iterator[Server]:
    """`app` is a module of `benchmarks.peers`, `threads` how many torch may use. It may not listen
    yet."""
    [port] = free_ports(1)
    python, module = str(environments.python_of(peer)), f"benchmarks.peers.{app}"
    command = {
        "fal": [python, "-m", "uvicorn", "--factory", f"{module}:asgi"]
        + ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
        "litserve": [python, "-m", module, str(port)],
    }[peer]
    environment = {
        "BENCHMARK_TASK": task.to_json(),
        "BENCHMARK_THREADS": str(threads),
        "IS_ISOLATE_AGENT": "1",  # lets a fal.App be made outside fal's cloud
    }
    with serving_peer(command, environment, port) as server:
        yield server
