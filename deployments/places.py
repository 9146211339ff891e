"""The ingresses of this application that are alive, and the actor that counts their places."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.place_counter import LISTEN_S, PlaceCounter
from glimpse.places import Claim, CounterLost, Kind

SEEN_S = 0.5  # a look at the ingresses that are alive is good for so long
ANSWER_S = 10.0  # a counter that takes longer is replaced


def place_counter() -> "RayPlaceCounter | None":
    """None where this is no replica of a deployment."""
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return None
    return RayPlaceCounter(
        context.app_name, ray.get_runtime_context().get_actor_name(), context.replica_tag
    )


class RayPlaceCounter:
    """The counter is a named actor. Whoever needs it first starts it, so that one ingress alone
    costs no process. It ends with the ingress that started it, and another one starts it again.

    Other ingresses are found by their actors' names. `ReplicaContext.world_size` would not do: a
    replica keeps the number from its own start, and the old ones of an update are not in it.
    """

    def __init__(self, application: str, actor_name: str, replica_tag: str) -> None:
        if not actor_name.endswith(replica_tag):
            raise RuntimeError(f"the actor of replica {replica_tag} is called {actor_name}")
        self._name = f"glimpse-places:{application}"
        self._own_name = actor_name
        self._siblings = actor_name.removesuffix(replica_tag)
        self._alive = 1
        self._seen_at = float("-inf")
        self._actor: Any = None
        self._starting = asyncio.Lock()

    async def ingresses(self) -> int:
        if time.monotonic() - self._seen_at > SEEN_S:
            try:
                # In a thread, because it waits for the GCS: 0.4 ms, or long when that is away.
                names = await asyncio.to_thread(ray.util.list_named_actors)
            except Exception as failure:
                raise CounterLost("the GCS does not answer") from failure
            if self._own_name not in names:
                raise CounterLost(f"the GCS does not know {self._own_name}")
            self._alive = sum(name.startswith(self._siblings) for name in names)
            self._seen_at = time.monotonic()
        return self._alive

    async def claim(self, claim: Claim) -> int:
        granted: int = await self._call(lambda actor: actor.claim.remote(claim), ANSWER_S)
        return granted

    async def recalled(self, kind: Kind, holder: str) -> None:
        await self._call(lambda actor: actor.recalled.remote(kind, holder), LISTEN_S + ANSWER_S)

    def close(self) -> None:
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None

    async def _call(self, method: Callable[[Any], Any], limit_s: float) -> Any:
        actor = await self._found()
        try:
            async with asyncio.timeout(limit_s):
                return await method(actor)
        except Exception as failure:
            if isinstance(failure, TimeoutError):
                ray.kill(actor)  # exactly this one: another may be there by now
            if self._actor is actor:
                self._actor = None
            raise CounterLost(str(failure)) from failure

    async def _found(self) -> Any:
        async with self._starting:
            if self._actor is None:
                try:
                    actor = await asyncio.to_thread(self._find_or_start)
                    async with asyncio.timeout(ANSWER_S):
                        await actor.__ray_ready__.remote()
                except Exception as failure:
                    raise CounterLost(str(failure)) from failure
                self._actor = actor
            return self._actor

    def _find_or_start(self) -> Any:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"name": self._name, "num_cpus": 0, "scheduling_strategy": here}
        return ray.remote(PlaceCounter).options(get_if_exists=True, **options).remote()
