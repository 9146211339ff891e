"""The app over fake stages, and HTTP requests to it that a test drives by hand."""

import asyncio
import json
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import Message

from glimpse.failover import Failover
from glimpse.http.access import AccessOptions
from glimpse.http.app import AppOptions, create_app
from glimpse.http.places import Places
from glimpse.http.realtime import RealtimeOptions
from glimpse.http.service import Service
from glimpse.places import Kind
from glimpse.ports import RoughPreviews
from tests.fakes import OFFER, FakeMeter, FakeStages, until

ANYBODY = AccessOptions(hosts=("*",), origins=(), keys=None)
JSON = {"content-type": "application/json"}
INPUT = {"prompt": "a lighthouse", "seed": 7, "request_id": "r1", "preview_every": 1}


REALTIME = RealtimeOptions(
    num_inference_steps=2,
    max_buffering=2,
    max_waiting_bytes=2000,
    idle_timeout_s=5,
    max_frame_bytes=1000,
    messages_per_s=100,
    max_input_bytes_per_s=1e6,
    max_unsent=3,
    max_output_bytes=10_000,
    output_window_s=5,
)


class Server:
    """The whole app, ready, unless a test wants to see it start."""

    def __init__(
        self,
        *,
        ready: bool = True,
        max_pictures: int = 2,
        deadline_s: float = 5,
        rough: RoughPreviews | None = None,
        failover: Failover | None = None,
        ping_interval_s: float = 5,
        realtime: RealtimeOptions = REALTIME,
        access: AccessOptions = ANYBODY,
        max_body_bytes: int = 1000,
        stage_wait_s: float = 5,
        place_wait_s: float = 0,
        max_sessions: int = 2,
        meter: FakeMeter | None = None,
    ) -> None:
        self.stages = FakeStages()
        self.service = Service(
            self.stages.flow(deadline_s=deadline_s, rough=rough, failover=failover, meter=meter),
            OFFER,
            pictures=Places(max_pictures, Kind.PICTURES, wait_s=place_wait_s),
            sessions=Places(max_sessions, Kind.SESSIONS, wait_s=place_wait_s),
            event_log_capacity=100,
            stage_wait_s=stage_wait_s,
        )
        self.service.ready = ready
        self.meter = FakeMeter()
        options = AppOptions(
            aliases=("glimpse/miniature", "glimpse/other"),
            max_body_bytes=max_body_bytes,
            ping_interval_s=ping_interval_s,
            realtime=realtime,
            page="<p>Draw!</p>",
            version="1.2.3",
            access=access,
            meter=self.meter,
        )
        self.app: FastAPI = create_app(self.service, options)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The whole answer to a request, as httpx has it."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            async with asyncio.timeout(5):
                return await client.request(method, path, **options)

    def open(self, path: str, fields: object = INPUT, port: int = 1) -> "Exchange":
        """A POST whose answer can be watched, and whose client can leave. Each port of a client is
        an owner."""
        return Exchange(self.app, path, json.dumps(fields).encode(), port=port)


class Exchange:
    """One POST: what the app has sent so far, and the client's end."""

    def __init__(
        self,
        app: FastAPI,
        path: str,
        *chunks: bytes,
        headers: Any = JSON,
        whole: bool = True,
        port: int = 1,
    ) -> None:
        self.sent: list[Message] = []
        self.chunks = list(chunks)  # of the body, that the app has not read
        self._whole = whole
        self._left = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", port),
            "server": ("test", 80),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if self.chunks:
            chunk = self.chunks.pop(0)
            return {
                "type": "http.request",
                "body": chunk,
                "more_body": bool(self.chunks) or not self._whole,
            }
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self._left.set()

    async def ended(self) -> "Exchange":
        await asyncio.wait({self.task}, timeout=5)
        assert self.task.done()
        if not self.task.cancelled():
            self.task.exception()  # whoever cares looks again; asyncio complains if no one does
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.body.split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    @property
    def complete(self) -> bool:
        """Whether the body has come to a proper end; otherwise the server drops the connection."""
        last = self.sent[-1]
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    async def has(self, count: int) -> None:
        """Waits for so many events."""
        await until(lambda: len(self.events) >= count)
