"""What Serve knows of its replicas.

`python -m benchmarks.recovery.state ADDRESS` joins the Ray there, and answers each line on its
standard input with it as a line of JSON.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.joined import answer

RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Deployment:
    """`replicas`: the state of each that has a process, by its id; `starting` counts others."""

    healthy: bool
    target: int
    replicas: Mapping[int, str]
    starting: int

    @property
    def running(self) -> frozenset[int]:
        return frozenset(pid for pid, state in self.replicas.items() if state == "RUNNING")

    @property
    def whole(self) -> bool:
        """Every replica runs, and there are no others."""
        alone = len(self.replicas) == len(self.running) == self.target
        return self.healthy and alone and self.starting == 0


@dataclass(frozen=True, slots=True)
class State:
    dashboard: str
    deployments: Mapping[str, Deployment]

    @property
    def whole(self) -> bool:
        # While new settings are being read there are none.
        return bool(self.deployments) and all(each.whole for each in self.deployments.values())

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "State":
        """From a line of JSON, in which a process id is text."""
        return cls(
            fields["dashboard"],
            {
                name: Deployment(
                    each["healthy"],
                    each["target"],
                    {int(pid): state for pid, state in each["replicas"].items()},
                    each["starting"],
                )
                for name, each in fields["deployments"].items()
            },
        )


def _of_deployment(details: Mapping[str, Any]) -> dict[str, Any]:
    replicas = details["replicas"]
    return {
        "healthy": details["status"].value == "HEALTHY",
        "target": details["target_num_replicas"],
        "replicas": {each["pid"]: each["state"].value for each in replicas if each.get("pid")},
        "starting": sum(not each.get("pid") for each in replicas),
    }


def _answer(address: str) -> None:
    import ray
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.context import _get_global_client

    context = ray.init(address, namespace="serve", log_to_driver=False, logging_level="ERROR")
    serve.status()  # connects

    def details() -> Mapping[str, Any]:
        while True:
            try:
                found: Mapping[str, Any] = _get_global_client().get_serve_details()
                return found
            except RayActorError:  # the controller has just died, and is started again
                time.sleep(RETRY_S)

    def look() -> dict[str, Any]:
        [application] = details()["applications"].values()
        return {
            "dashboard": f"http://{context.dashboard_url}",
            "deployments": {
                name: _of_deployment(details)
                for name, details in application["deployments"].items()
            },
        }

    answer(look)


if __name__ == "__main__":
    _answer(sys.argv[1])
