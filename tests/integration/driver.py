"""What a test asks of an application's Ray, run in a process of its own: a process can be a driver
of one Ray at a time, and Serve never forgets the first."""

import asyncio
from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.siblings import Siblings

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


def trials() -> dict[str, bool]:
    """What one of two ingresses sees of a trial of the other one, which is convicted."""
    return asyncio.run(_trials())


async def _trials() -> dict[str, bool]:
    first, second = (_siblings(name) for name in _ingresses())
    await first.begin_trial("denoise")
    beginning = asyncio.create_task(second.begin_trial("denoise"))
    done, _ = await asyncio.wait({beginning}, timeout=2)
    beside = await second.excuses("denoise", 0)
    first.end_trial("denoise", convicted=True)
    await beginning
    second.end_trial("denoise", convicted=False)
    while await second.excuses("denoise", -60):  # work that begins later is excused by no trial
        await asyncio.sleep(0.1)
    return {
        "it waits": not done,
        "a loss beside it": beside,
        "a loss of work from before it": await second.excuses("denoise", 60),
        "a loss of another stage": await second.excuses("image_decode", 60),
    }


def trial_whose_ingress_dies() -> None:
    """Returns once the other one has begun its own."""
    asyncio.run(_trial_whose_ingress_dies())


async def _trial_whose_ingress_dies() -> None:
    first, second = _ingresses()
    await _siblings(first).begin_trial("denoise")
    ray.kill(ray.get_actor(first))
    other = _siblings(second)
    await other.begin_trial("denoise")
    other.end_trial("denoise", convicted=False)


def _ingresses() -> list[str]:
    return [name for name in ray.util.list_named_actors() if "#Ingress#" in name]


def _siblings(actor_name: str) -> Siblings:
    return Siblings(APPLICATION, actor_name, actor_name.rpartition("#")[2])
