"""POST / and POST /stream: a generation as one JSON answer, or as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from glimpse.errors import GlimpseError
from glimpse.event_log import Cancelled, Event, EventLog, Failed, Final
from glimpse.http.body import read_json_object
from glimpse.http.caller import Caller
from glimpse.http.errors import GenerationFailed
from glimpse.http.leaving import ClientGone, unless_gone
from glimpse.http.service import Service
from glimpse.ports import Priority
from glimpse.protocols import sse
from glimpse.request import GenerationInput, GenerationRequest
from glimpse.request_warnings import ANSWER_ALONE, STREAM, Shown

# The schema's own definitions, seen from the root of the document.
DEFINITION = "#/paths/~1stream/post/requestBody/content/application~1json/schema/$defs/{model}"
INPUT_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": GenerationInput.model_json_schema(ref_template=DEFINITION),
                "example": {"prompt": "a red lighthouse by the sea at sunset", "seed": 7},
            }
        },
    }
}


def router(prefix: str, service: Service, max_body_bytes: int, ping_interval_s: float) -> APIRouter:
    """The routes below a prefix, which may be empty; the prefix itself is `POST /`."""
    routes = APIRouter(tags=["generate"])

    async def parse(request: Request, shown: Shown) -> GenerationRequest:
        fields = await read_json_object(request, max_body_bytes)
        if fields.get("request_id") is None:
            fields["request_id"] = request.state.request_id
        wanted = await service.parse(fields, shown=shown)
        request.state.request_id = wanted.request_id
        return wanted

    @routes.post(
        f"{prefix}/stream",
        openapi_extra=INPUT_SCHEMA,
        response_class=Response,
        responses={200: {"content": {sse.CONTENT_TYPE: {}}}},
    )
    async def stream(request: Request) -> Response:
        """Previews while the picture is being made, then the picture, as server-sent events."""
        wanted = await parse(request, STREAM)
        return EventStream(
            service,
            wanted,
            request.state.caller,
            ping_interval_s,
            lambda event: sse.encode(event, wanted),
        )

    @routes.post(prefix or "/", openapi_extra=INPUT_SCHEMA, response_class=JSONResponse)
    async def run(request: Request) -> Response:
        """The finished picture as one JSON answer."""
        wanted = await parse(request, ANSWER_ALONE)
        final = await unless_gone(
            request.receive, final_event(service, wanted, request.state.caller)
        )
        return JSONResponse(sse.final_json(final, wanted))

    return routes


async def final_event(service: Service, request: GenerationRequest, caller: Caller) -> Final:
    """Makes the pictures. Raises `GenerationFailed`, or what kept it from beginning."""
    async with service.generation(request, Priority.INTERACTIVE, caller=caller) as log:
        async for _, event in log.read():
            if isinstance(event, Failed):
                raise GenerationFailed(event.error)
            if isinstance(event, Final):
                return event
    raise GenerationFailed(GlimpseError())


class StreamCutOff(Exception):
    """Raised after the error event of a stream, so that the server drops the connection: to a
    client, a clean end would read as success."""


class EventStream(Response):
    """A generation as server-sent events, as `encode` has them. A client that leaves cancels it."""

    def __init__(
        self,
        service: Service,
        request: GenerationRequest,
        caller: Caller,
        ping_interval_s: float,
        encode: Callable[[Event], bytes | None],
    ) -> None:
        super().__init__(media_type=sse.CONTENT_TYPE)
        del self.headers["content-length"]
        # Without no-transform a proxy that compresses may hold all events back until the end.
        self.headers["cache-control"] = "no-store, no-transform"
        self.headers["x-accel-buffering"] = "no"  # nginx would hold events back
        self._service = service
        self._request = request
        self._caller = caller
        self._ping_interval_s = ping_interval_s
        self._encode = encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(receive, self._answer(send))
        except ClientGone:
            return

    async def _answer(self, send: Send) -> None:
        async with self._service.generation(
            self._request, Priority.INTERACTIVE, caller=self._caller
        ) as log:
            await self._send_events(log, send)

    async def _send_events(self, log: EventLog, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(_with_pings(self._chunks(log), self._ping_interval_s)) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self, log: EventLog) -> AsyncGenerator[bytes, None]:
        async for _, event in log.read():
            chunk = self._encode(event)
            if chunk is not None:
                yield chunk
            if isinstance(event, Failed | Cancelled):
                raise StreamCutOff


async def _with_pings(
    chunks: AsyncGenerator[bytes, None], interval_s: float
) -> AsyncGenerator[bytes, None]:
    """The chunks of a stream, and a ping after each interval without one."""
    following = asyncio.ensure_future(anext(chunks, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=interval_s)
            if not done:
                yield sse.PING
                continue
            chunk = following.result()
            if chunk is None:
                return
            yield chunk
            following = asyncio.ensure_future(anext(chunks, None))
    finally:
        following.cancel()
        await asyncio.wait({following})
        await chunks.aclose()
