"""The denoiser's own counters, as its `ping` tells them.

`python -m benchmarks.counters ADDRESS` joins the Ray there, and answers each line on its standard
input with the counters as a line of JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from benchmarks.server import Server
from config.settings import ROOT

Counters = Mapping[str, int]


class Reader:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self) -> Counters:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the reader of the denoiser's counters has ended")
        counters: Counters = json.loads(answer)
        return counters


@contextmanager
def reading(server: Server) -> Iterator[Reader]:
    """Of a server that is up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.counters", server.ray_address()],
        cwd=ROOT,
        env=os.environ | server.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Reader(process)
    finally:
        process.communicate()  # the end of its input is the end of it


def rows_per_tick(before: Counters, after: Counters) -> float:
    """Mean rows in a call of the network between two readings."""
    return (after["rows_run"] - before["rows_run"]) / (after["ticks"] - before["ticks"])


def _answer(address: str) -> None:
    import ray
    from ray import serve

    ray.init(address=address, namespace="serve", log_to_driver=False, logging_level="ERROR")
    [application] = serve.status().applications
    deployments = serve.status().applications[application].deployments
    # Split, the denoiser is a deployment of its own; fused, it is in the only one.
    name = "Denoiser" if "Denoiser" in deployments else next(iter(deployments))
    denoiser = serve.get_deployment_handle(name, application)
    for _ in sys.stdin:
        print(json.dumps(denoiser.ping.remote().result()), flush=True)


if __name__ == "__main__":
    _answer(sys.argv[1])
