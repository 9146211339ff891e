"""GET /health: whether every stage answers."""

import asyncio
import contextvars
import time
from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from glimpse.http import errors
from glimpse.http.paths import HEALTH
from glimpse.http.service import Service

KEPT_S = 1.0
# Both of a stage's answers have to come within it, so that no answer is older than it may be kept.
TIMEOUT_S = 0.9

Stages = dict[str, bool]


class Health:
    """Asks the stages when somebody wants to know, and at most once in `KEPT_S`.

    That time counts from the question: a stage may be lost as soon as it has answered, and nobody
    is told that the server is ready when a stage was lost for longer than `KEPT_S`.
    """

    def __init__(self, service: Service, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._clock = clock
        self._asked: asyncio.Task[Stages] | None = None
        self._asked_at = 0.0

    async def stages(self) -> Stages:
        """Whether each stage answers, by its name."""
        now = self._clock()
        if self._asked is None or now - self._asked_at >= KEPT_S:
            self._asked_at = now
            # In a context of its own: what is called in a request's is cancelled with that request.
            self._asked = asyncio.create_task(
                self._service.health(TIMEOUT_S), context=contextvars.Context()
            )
        return await asyncio.shield(self._asked)


def router(service: Service, version: str) -> APIRouter:
    routes = APIRouter(tags=["operate"])
    health = Health(service)

    @routes.get(HEALTH, responses={503: {}, **errors.documented(400, 403, 500)})
    async def answer() -> Response:
        """200 when every stage answers, else 503. The answer is at most a second old."""
        stages = await health.stages()
        ready = service.ready and all(stages.values())
        status = "ready" if ready else "unavailable" if service.ready else "starting"
        return JSONResponse(
            {"status": status, "version": version, "stages": stages},
            200 if ready else 503,
            {"cache-control": "no-store"},
        )

    return routes
