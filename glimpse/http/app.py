"""The ASGI app: which routes there are."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path
from fastapi_offline import FastAPIOffline
from starlette.responses import HTMLResponse, Response

from glimpse.errors import NotFound
from glimpse.http import access, errors, generate, health, openai, realtime
from glimpse.http.access import AccessOptions
from glimpse.http.head import HeadMiddleware, WholeMiddleware
from glimpse.http.realtime import RealtimeOptions
from glimpse.http.request_id import RequestIdMiddleware
from glimpse.http.service import Service
from glimpse.meter import Meter
from glimpse.protocols.openai_answers import hint


@dataclass(frozen=True, slots=True)
class AppOptions:
    """`aliases` are fal app ids, owner/alias; `page` is the HTML of `GET /`."""

    aliases: tuple[str, ...]
    max_body_bytes: int
    ping_interval_s: float
    realtime: RealtimeOptions
    page: str
    version: str
    access: AccessOptions
    meter: Meter


def create_app(service: Service, options: AppOptions) -> FastAPI:
    # The pages under /docs come with everything they need: a cluster may have no way out.
    app = FastAPIOffline(
        static_url="/docs/static",
        redoc_url=None,
        title="Glimpse",
        version=options.version,
        summary="Diffusion models that show the picture while it is being made.",
        redirect_slashes=False,
        lifespan=_lifespan(service),
    )
    app.state.meter = options.meter
    errors.install(app)
    access.install(app, options.access, options.aliases)
    app.add_middleware(WholeMiddleware)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(RequestIdMiddleware)
    # Before the applications, whose paths, /{owner}/{alias}, its own look like.
    app.include_router(
        openai.router(service, options.aliases, options.max_body_bytes, options.ping_interval_s)
    )
    known = [Depends(_known_alias(options.aliases))]
    failures = (*errors.ANYWHERE, *errors.OF_A_BODY, 422, 504)
    for prefix, dependencies, statuses in (
        ("", [], failures),
        ("/{owner}/{alias}", known, (*failures, 404)),
    ):
        app.include_router(
            generate.router(prefix, service, options.max_body_bytes, options.ping_interval_s),
            dependencies=dependencies,
            responses=errors.documented(*statuses),
        )
        app.include_router(_page(prefix, options.page), dependencies=dependencies)
        app.include_router(
            realtime.router(prefix, service, options.realtime), dependencies=dependencies
        )
    app.include_router(health.router(service, options.version))
    return app


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(service.wait_for_stages()),
            asyncio.create_task(service.keep_places()),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    return lifespan


def _page(prefix: str, html: str) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get(prefix or "/")
    async def page() -> Response:
        return HTMLResponse(html)

    return routes


def _known_alias(aliases: tuple[str, ...]) -> Callable[[str, str], None]:
    owners, names = zip(*(alias.split("/") for alias in aliases), strict=True)

    def check(
        owner: Annotated[str, Path(json_schema_extra={"enum": sorted(set(owners))})],
        alias: Annotated[str, Path(json_schema_extra={"enum": sorted(set(names))})],
    ) -> None:
        if f"{owner}/{alias}" not in aliases:
            known = f"No such application; this server has {', '.join(aliases)}."
            raise NotFound(known + hint(f"/{owner}/{alias}"))

    return check
