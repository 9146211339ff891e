"""A client of `POST /stream` that looks at the clock."""

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

TIMEOUT = httpx.Timeout(300, connect=5)


class NotServed(Exception):
    """There is no server yet, or it has no place for this request yet."""


@dataclass(slots=True)
class Received:
    """One picture as a client saw it come: seconds from sending the request. `rough` counts
    previews that the server made without its decoder; `timings` are its own, where it has some.
    """

    previews_s: list[float] = field(default_factory=list)
    rough: int = 0
    final_s: float = 0.0
    picture: bytes = b""
    timings: dict[str, float] = field(default_factory=dict)


async def generate(client: httpx.AsyncClient, fields: Mapping[str, Any]) -> Received:
    """Raises `NotServed`, or `RuntimeError` for a generation that failed."""
    received = Received()
    began = time.perf_counter()
    try:
        async with client.stream("POST", "/stream", json=fields, timeout=TIMEOUT) as response:
            if response.status_code != 200:
                raise NotServed(response.status_code)
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    _receive(received, json.loads(line[6:]), time.perf_counter() - began)
    except httpx.TransportError as failure:
        raise NotServed(repr(failure)) from failure
    if not received.picture:
        raise RuntimeError("the stream ended without a picture")
    return received


def _receive(received: Received, event: dict[str, Any], seconds: float) -> None:
    match event.get("type"):
        case "preview":
            received.previews_s.append(seconds)
            received.rough += event.get("quality") == "rough"
        case "final":
            received.final_s = seconds
            received.picture = base64.b64decode(event["image"]["url"].partition(",")[2])
            received.timings = event.get("timings", {})
        case _:
            raise RuntimeError(f"the generation failed: {event}")
