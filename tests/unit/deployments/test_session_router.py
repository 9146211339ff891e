"""`deployments.session_router`: which call gets the replica that was found for it."""

import asyncio
from typing import Any

import pytest
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, RequestMetadata
from ray.serve._private.request_router.common import PendingRequest

from deployments.session_router import SessionRouter


def call(session: str) -> Any:
    """One of the calls that one request makes, and so with the ids of that request."""
    metadata = RequestMetadata(
        request_id="request", internal_request_id="request", session_id=session
    )
    return PendingRequest(args=[], kwargs={}, metadata=metadata)


@pytest.mark.parametrize("session", ["", "session"])
async def test_each_of_the_calls_of_one_request_gets_a_replica(session: str) -> None:
    router = SessionRouter(DeploymentID("Denoiser"), DeploymentHandleSource.REPLICA)
    first, second = call(session), call(session)
    waiting = [
        asyncio.create_task(router._choose_replica_for_request(each)) for each in (first, second)
    ]
    await asyncio.sleep(0)
    for each, replica in ((second, "replica of the second"), (first, "replica of the first")):
        router._fulfill_next_pending_request(replica, each.metadata)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == ["replica of the first", "replica of the second"]
