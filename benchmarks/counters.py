"""The denoiser's own counters, as its `ping` tells them.

`python -m benchmarks.counters ADDRESS` joins the Ray there, and answers each line on its standard
input with the counters as a line of JSON.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from benchmarks.joined import Joined, answer, joined
from benchmarks.server import Server

Counters = Mapping[str, int]


class Reader:
    def __init__(self, joined: Joined) -> None:
        self._joined = joined

    def read(self) -> Counters:
        counters: Counters = self._joined.ask()
        return counters


@contextmanager
def reading(server: Server) -> Iterator[Reader]:
    """Of a server that is up."""
    with joined(server, "benchmarks.counters") as process:
        yield Reader(process)


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
    answer(lambda: denoiser.ping.remote().result())


if __name__ == "__main__":
    _answer(sys.argv[1])
