"""Which replica a job goes to: a session's always to the same one, any other to the less busy of
two."""

import random
from typing import Any

from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter


class SessionRouter(ConsistentHashRouter):  # type: ignore[misc]
    """When a session's replica goes, its next job goes to another, and stays there.

    Without a session, Ray's router would go by the request that a call belongs to, and send all
    jobs of one request to one replica, however busy it is.
    """

    async def choose_replicas(
        self, candidate_replicas: list[Any], pending_request: Any = None
    ) -> list[list[Any]]:
        """Replicas in the order in which they are asked; of those in one list the less busy."""
        if pending_request is None or pending_request.metadata.session_id:
            ranked: list[list[Any]] = await super().choose_replicas(
                candidate_replicas, pending_request
            )
            return ranked
        return [random.sample(list(candidate_replicas), min(2, len(candidate_replicas)))]

    def _get_pending_request_matching_internal_request_id(
        self, request_metadata: Any = None
    ) -> Any | None:
        """The call that a replica was found for. Ray's own goes by the request that a call belongs
        to, and of several calls that one request makes at once all but the first wait for ever."""
        for pending in self._pending_requests_to_fulfill:
            if pending.metadata is request_metadata and not pending.future.done():
                return pending
        return None
