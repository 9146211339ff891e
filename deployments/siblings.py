"""The ingresses of this application that are alive, and the actor in which they share things."""

import asyncio
import logging
import time
from typing import Any

import ray
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.shared import LISTEN_S, TRIAL_S, Shared
from glimpse.places import Answer, Claim, CounterLost, Kind

logger = logging.getLogger("glimpse.siblings")

SEEN_S = 0.5  # a look at the ingresses that are alive is good for so long
ANSWER_S = 10.0  # an actor that takes longer is replaced
EXCUSE_S = 1.0  # that a move waits for others to tell of their trials


def siblings() -> "Siblings | None":
    """None where this is no replica of a deployment."""
    try:
        context = serve.get_replica_context()
    except RayServeException:
        return None
    return Siblings(
        context.app_name, ray.get_runtime_context().get_actor_name(), context.replica_tag
    )


class Siblings:
    """A `PlaceCounter` and a `TrialBoard`. What is shared is a named actor. Whoever needs it first
    starts it, so that one ingress alone costs no process. It ends with the ingress that started it,
    and another one starts it again.

    The ingresses are found by their actors' names. `ReplicaContext.world_size` would not do: a
    replica keeps the number from its own start, and the old ones of an update are not in it.
    """

    def __init__(self, application: str, actor_name: str, replica_tag: str) -> None:
        if not actor_name.endswith(replica_tag):
            raise RuntimeError(f"the actor of replica {replica_tag} is called {actor_name}")
        self._name = f"glimpse-shared:{application}"
        self._own_name = actor_name
        self._prefix = actor_name.removesuffix(replica_tag)
        self._alive = [actor_name]
        self._seen_at = float("-inf")
        self._looking = asyncio.Lock()
        self._asked_for_trial = False
        self._telling: set[asyncio.Task[None]] = set()
        self._actor: Any = None
        self._found = 0
        self._finding = asyncio.Lock()

    async def ingresses(self) -> int:
        async with self._looking:  # who comes meanwhile takes what the one before has seen
            if time.monotonic() - self._seen_at > SEEN_S:
                await self._look()
        return len(self._alive)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                # In a thread, because it waits for the GCS: 0.4 ms, or long when that is away.
                names = await asyncio.to_thread(ray.util.list_named_actors)
        except Exception as failure:
            raise CounterLost(type(failure).__name__) from failure
        if self._own_name not in names:
            raise CounterLost(f"the GCS does not know {self._own_name}")
        self._alive = [name for name in names if name.startswith(self._prefix)]
        self._seen_at = time.monotonic()

    async def claim(self, claim: Claim) -> Answer:
        answer: Answer = await self._call("claim", claim, limit_s=ANSWER_S)
        return answer

    async def called(self, kind: Kind, holder: str) -> None:
        await self._call("called", kind, holder, limit_s=LISTEN_S + ANSWER_S)

    def close(self) -> None:
        if self._actor is not None:
            self._forget(self._found, kill=True)

    async def begin_trial(self, stage: str) -> None:
        limit_s = TRIAL_S + ANSWER_S
        try:
            while await self.ingresses() > 1:
                self._asked_for_trial = True
                asking = self._own_name, stage, self._alive
                if await self._call("begin_trial", *asking, limit_s=limit_s):
                    return
        except CounterLost as failure:
            logger.warning("a trial begins without a word from other ingresses: %s", failure)
        except asyncio.CancelledError:
            self.end_trial(stage, convicted=False)
            raise

    def end_trial(self, stage: str, *, convicted: bool) -> None:
        if self._asked_for_trial:
            self._asked_for_trial = False
            telling = asyncio.create_task(self._tell_of_end(stage, convicted))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _tell_of_end(self, stage: str, convicted: bool) -> None:
        try:
            await self._call("end_trial", self._own_name, stage, convicted, limit_s=ANSWER_S)
        except CounterLost as failure:
            logger.warning("other ingresses do not learn of the end of a trial: %s", failure)

    async def excuses(self, stage: str, age_s: float) -> bool:
        try:
            async with asyncio.timeout(EXCUSE_S):
                if await self.ingresses() == 1:
                    return False
                excused: bool = await self._call(
                    "excuses", stage, age_s, self._alive, limit_s=ANSWER_S
                )
                return excused
        except (CounterLost, TimeoutError) as failure:
            logger.warning("what other ingresses try is not known: %s", type(failure).__name__)
            return False

    async def _call(self, method: str, *arguments: Any, limit_s: float) -> Any:
        found = await self._find()
        try:
            async with asyncio.timeout(limit_s):
                return await getattr(self._actor, method).remote(*arguments)
        except Exception as failure:
            self._forget(found, kill=isinstance(failure, TimeoutError))
            raise CounterLost(type(failure).__name__) from failure

    async def _find(self) -> int:
        """Which actor it is: the first one found, the second one, and so on."""
        async with self._finding:
            if self._actor is None:
                self._found += 1
                try:
                    self._actor = await asyncio.to_thread(self._start_or_get)
                    async with asyncio.timeout(ANSWER_S):
                        await self._actor.__ray_ready__.remote()
                except Exception as failure:
                    self._forget(self._found, kill=isinstance(failure, TimeoutError))
                    raise CounterLost(type(failure).__name__) from failure
            return self._found

    def _start_or_get(self) -> Any:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"name": self._name, "num_cpus": 0, "scheduling_strategy": here}
        return ray.remote(Shared).options(get_if_exists=True, **options).remote()

    def _forget(self, found: int, kill: bool = False) -> None:
        """No other variable refers to an actor: as long as one did, also in a traceback, Ray would
        find the dead actor by its name."""
        if found == self._found and self._actor is not None:
            if kill:
                ray.kill(self._actor)
            self._actor = None
