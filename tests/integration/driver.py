"""What a test asks of an application's Ray, run in a process of its own: a process can be a driver
of one Ray at a time, and Serve never forgets the first."""

import ray
from ray import serve

APPLICATION = "glimpse"


def connect(address: str) -> None:
    ray.init(address, namespace="serve", log_to_driver=False, logging_level="ERROR")


def counters(deployment: str) -> dict[str, int]:
    """What a stage has done so far, by its own count."""
    handle = serve.get_deployment_handle(deployment, APPLICATION)
    counted: dict[str, int] = handle.ping.remote().result(timeout_s=30)
    return counted


def counters_of_each(deployment: str) -> list[dict[str, int]]:
    """The same of every replica, in no order."""
    handle = serve.get_deployment_handle(deployment, APPLICATION)
    counted: list[dict[str, int]] = handle.broadcast("ping").results(timeout_s=30)
    return counted


def replicas(deployment: str) -> int:
    """How many replicas of a deployment are running."""
    status = serve.status().applications[APPLICATION].deployments[deployment]
    running: int = status.replica_states.get("RUNNING", 0)
    return running


def kill(deployment: str, most: int) -> None:
    """Kills replicas of a deployment, without warning."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    named = [actor for actor in actors if f"#{deployment}#" in actor["name"]]
    for actor in named[:most]:
        ray.kill(ray.get_actor(**actor))
