"""What a test asks of an application's Ray, run in a process of its own: a process can be a driver
of one Ray at a time, and Serve never forgets the first."""

from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

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


def deploy(config: dict[str, Any]) -> None:
    """Another serve config for the same Serve, as `serve deploy` gives it."""
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(ServeDeploySchema.model_validate(config))


def settled() -> bool:
    """Whether the application is as its config says: nothing starts, stops or is updated."""
    application = serve.status().applications[APPLICATION]
    states = [set(each.replica_states) for each in application.deployments.values()]
    return application.status == "RUNNING" and all(each == {"RUNNING"} for each in states)
