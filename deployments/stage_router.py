"""Which replica a call of a stage goes to: a session's always to the same one, any other to the
less busy of two."""

import random
from typing import Any

from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

# Serve pickles this module by value, with what it names: no state may be kept in it.
from deployments.replicas import Replicas, replicas_of, sent_to


class StageRouter(ConsistentHashRouter):  # type: ignore[misc]
    """When a session's replica goes, its next job goes to another, and stays there. Replicas that
    stand still get nothing as long as there are others.

    Without a session, Ray's router would go by the request that a call belongs to, and send all
    jobs of one request to one replica, however busy it is.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        super().initialize_state(**kwargs)
        self._seen: Replicas = replicas_of(self.app_name, self._deployment_id.name)

    def update_replicas(self, replicas: list[Any]) -> None:
        super().update_replicas(replicas)
        self._tell()

    def on_replica_actor_died(self, replica_id: Any) -> None:
        super().on_replica_actor_died(replica_id)
        self._tell()

    def _tell(self) -> None:
        self._seen.update(
            {_name(each): each._actor_handle.check_health.remote for each in self._replicas_list}
        )

    async def choose_replicas(
        self, candidate_replicas: list[Any], pending_request: Any = None
    ) -> list[list[Any]]:
        """Replicas in the order in which they are asked; of those in one list the less busy. Never
        nothing: Serve would ask again for ever, and hold up its loop."""
        trusted = self._seen.trusted(list(candidate_replicas), _name)
        if pending_request is None:
            return [trusted]
        pending_request.routing_context.should_backoff = True  # else Serve asks without a pause
        if pending_request.metadata.session_id:
            ranked = await super().choose_replicas(candidate_replicas, pending_request)
            return [rank for rank in ranked if rank[0] in trusted] or [trusted]
        return [random.sample(trusted, min(2, len(trusted)))]

    async def _choose_replica_for_request(
        self, pending_request: Any, *, is_retry: bool = False
    ) -> Any:
        sent_to(None)  # a replica that was full has sent it back
        replica = await super()._choose_replica_for_request(pending_request, is_retry=is_retry)
        sent_to(_name(replica))
        return replica

    def _get_pending_request_matching_internal_request_id(
        self, request_metadata: Any = None
    ) -> Any | None:
        """The call that a replica was found for. Ray's own goes by the request that a call belongs
        to, and of several calls that one request makes at once all but the first wait for ever."""
        for pending in self._pending_requests_to_fulfill:
            if pending.metadata is request_metadata and not pending.future.done():
                return pending
        return None


def _name(replica: Any) -> str:
    name: str = replica.replica_id.unique_id
    return name
