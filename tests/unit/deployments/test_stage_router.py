"""`deployments.stage_router`: which replica a call is sent to."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest

from deployments.replicas import Call, replicas_of
from deployments.stage_router import StageRouter


class Actor:
    """Of a replica, as far as its health check."""

    def __init__(self) -> None:
        self.check_health = self

    async def remote(self) -> None:
        return


class Replica:
    """A `RunningReplica`, as far as routing goes; it is never busy."""

    max_ongoing_requests = 5

    def __init__(self, name: str, deployment: DeploymentID) -> None:
        self.replica_id = ReplicaID(name, deployment)
        self._actor_handle = Actor()

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return 0


def router(deployment: str, *names: str) -> StageRouter:
    its_id = DeploymentID(deployment, "test")
    made = StageRouter(its_id, DeploymentHandleSource.REPLICA)
    made.initialize_state(num_fallback_replicas=2)
    made.update_replicas([Replica(name, its_id) for name in names])
    return made


def call(session: str = "") -> Any:
    """One of the calls that one request makes, and so with the ids of that request."""
    metadata = RequestMetadata(
        request_id="request", internal_request_id="request", session_id=session
    )
    return PendingRequest(args=[], kwargs={}, metadata=metadata)


async def chosen(made: StageRouter, pending: Any) -> list[str]:
    ranks = await made.choose_replicas(made._replicas_list, pending)
    assert ranks and all(ranks)  # with nothing to ask, Serve would ask again without a pause
    return [each.replica_id.unique_id for rank in ranks for each in rank]


@pytest.mark.parametrize("session", ["", "session"])
async def test_each_of_the_calls_of_one_request_gets_a_replica(session: str) -> None:
    made = router("each")
    first, second = call(session), call(session)
    waiting = [
        asyncio.create_task(made._choose_replica_for_request(each)) for each in (first, second)
    ]
    await asyncio.sleep(0)
    for each, name in ((second, "of the second"), (first, "of the first")):
        made._fulfill_next_pending_request(Replica(name, DeploymentID("each")), each.metadata)
    async with asyncio.timeout(5):
        found = await asyncio.gather(*waiting)
    assert [each.replica_id.unique_id for each in found] == ["of the first", "of the second"]


@pytest.mark.parametrize("session", ["", "session"])
async def test_where_all_are_full_serve_is_told_to_pause_before_it_asks_again(
    session: str,
) -> None:
    pending = call(session)
    await chosen(router("full", "a", "b"), pending)
    assert pending.routing_context.should_backoff


async def test_a_session_stays_and_what_is_none_is_shared_out() -> None:
    made = router("shared", "a", "b", "c")
    assert len({(await chosen(made, call("s")))[0] for _ in range(20)}) == 1
    assert set(Counter([(await chosen(made, call()))[0] for _ in range(99)])) == {"a", "b", "c"}


@pytest.mark.parametrize("session", ["", "session"])
async def test_a_suspect_gets_nothing_unless_there_is_nobody_else(session: str) -> None:
    made = router(f"suspects{session}", "a", "b")
    seen = replicas_of("test", f"suspects{session}")
    seen._suspects = frozenset({"a"})
    for _ in range(20):
        assert await chosen(made, call(session)) == ["b"]
    seen._suspects = frozenset({"a", "b"})
    assert set(await chosen(made, call(session))) == {"a", "b"}


async def test_a_session_whose_replicas_are_all_dead_to_the_ring_is_asked_elsewhere() -> None:
    """Serve drops a replica that died at once, the ring only with the controller's next word."""
    made = router("ring", *"abcdef")
    dead = made._lookup_ranked_replicas("s")
    for replica_id in dead:
        made.on_replica_actor_died(replica_id)
    found = await chosen(made, call("s"))
    assert found and not {each.unique_id for each in dead} & set(found)


async def test_who_calls_is_told_where_its_call_went() -> None:
    made = router("told", "a")
    sent = Call("denoise")

    class Method:
        def remote(self) -> asyncio.Task[Any]:
            return asyncio.create_task(made._choose_replica_for_request(call()))

    async with asyncio.timeout(5):
        await sent.send(Method())
    assert sent.replica == "a"


async def test_which_replicas_are_there_is_known_to_those_that_call() -> None:
    made = router("there")
    seen = replicas_of("test", "there")
    assert not seen.present
    its_id = DeploymentID("there", "test")
    made.update_replicas([Replica("a", its_id), Replica("b", its_id)])
    assert seen._there.keys() == {"a", "b"}
    made.on_replica_actor_died(ReplicaID("a", its_id))
    assert seen._there.keys() == {"b"}
    made.update_replicas([])
    assert not seen.present


async def test_the_class_that_serve_makes_of_its_pickle_shares_what_is_known() -> None:
    """Serve pickles the module of a router by value, and so copies what that module has itself."""
    config = RequestRouterConfig(request_router_class="deployments.stage_router.StageRouter")
    unpickled: Any = config.get_request_router_class()
    made = unpickled(DeploymentID("pickled", "test"), DeploymentHandleSource.REPLICA)
    made.initialize_state()
    made.update_replicas([Replica("a", DeploymentID("pickled", "test"))])
    assert replicas_of("test", "pickled").present
