"""A realtime session that asks for large pictures and does not read them: what that costs in
memory, and how it goes on."""

import asyncio
import io
import json
import socket
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgpack
import numpy as np
from PIL import Image
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from benchmarks.processes import used
from benchmarks.realtime_client import ask, connected
from benchmarks.server import Server

# As many bytes a second as may be: one step of a picture of noise, which PNG cannot compress.
FIELDS = {
    "prompt": "noise",
    "num_inference_steps": 50,
    "strength": 0.02,
    "guidance_scale": 1,
    "num_images": 4,
    "output_format": "png",
    "image_encoding": "data_uri",
}
SIDE = 256  # pixels
WARM_UP = 5  # pictures that are read, so that what the model needs is there before
EVERY_S = 0.1  # a message; more than the model follows, and the oldest of those that wait goes
LOOK_EVERY = 10  # messages
RECEIVE_BUFFER_BYTES = 2**16
LAST = "last"


@dataclass(frozen=True, slots=True)
class Figure:
    """`growth` is of RSS, in bytes, by kind of process: the most that was seen. `ended`: the error
    that the session was closed with; None where it went on when the client read again. `received`
    counts results and `dropped` what the server says that it gave up, messages or results."""

    seconds: float
    growth: dict[str, int]
    ended: str | None
    received: int
    received_bytes: int
    dropped: int


@dataclass(slots=True)
class _Received:
    results: int = 0
    size: int = 0
    dropped: int = 0
    error: str | None = None
    ids: list[str] = field(default_factory=list)


async def measure(server: Server, seconds: float) -> Figure:
    address = urlsplit(server.url)
    reader = socket.socket()
    # Before it connects: the system would make it megabytes.
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    reader.connect((address.hostname, address.port))
    async with connected(server.url, sock=reader, max_queue=1) as connection:
        # A session keeps what it was told.
        await ask(connection, {**FIELDS, "width": SIDE, "height": SIDE, "image": _noise()})
        for seed in range(WARM_UP):
            await ask(connection, {"seed": seed})
        before, most = _rss(server), defaultdict[str, int](int)
        began = time.monotonic()
        sent = 0
        while time.monotonic() - began < seconds:
            await connection.send(msgpack.packb({"seed": sent}))
            sent += 1
            if sent % LOOK_EVERY == 0:
                for kind, rss in _rss(server).items():
                    most[kind] = max(most[kind], rss - before.get(kind, 0))
            await asyncio.sleep(EVERY_S)
        received = await _read(connection)
    return Figure(
        seconds=seconds,
        growth=dict(most),
        ended=received.error,
        received=received.results,
        received_bytes=received.size,
        dropped=received.dropped,
    )


async def _read(connection: ClientConnection) -> _Received:
    """All that is there, up to the answer to one more message or to the end."""
    received = _Received()
    try:
        await connection.send(msgpack.packb({"seed": 0, "request_id": LAST}))
        while LAST not in received.ids:
            _count(received, await connection.recv())
    except ConnectionClosed as closed:
        code = None if closed.rcvd is None else closed.rcvd.code
        received.error = f"{received.error or 'no error'}, {code or 'no close frame'}"
    return received


def _count(received: _Received, frame: bytes | str) -> None:
    if isinstance(frame, str):
        received.error = json.loads(frame)["error"]
        return
    result: dict[str, Any] = msgpack.unpackb(frame)
    received.results += 1
    received.size += len(frame)
    received.dropped += result["dropped"]
    received.ids.append(result["request_id"])


def _noise() -> bytes:
    """A picture, as PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def _rss(server: Server) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for process in used(server.root):
        found[process.kind] += process.rss
    return found
