"""A realtime session for tests: msgpack over a WebSocket, by hand."""

import asyncio
import io
import json
import socket
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from tests.integration.application import Application

PROMPT = "a windmill on green hills"
STEPS = 4  # of a message that does not say how many
LARGE_STEPS = 4  # of `large`, a step a picture


def large() -> dict[str, Any]:
    """What has as many bytes of answer as a message may ask for, in little time: four pictures of
    noise, which PNG cannot make smaller."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    picture = io.BytesIO()
    Image.fromarray(noise).save(picture, "png")
    return {
        **{"prompt": "noise", "image": picture.getvalue(), "width": 256, "height": 256},
        **{"num_inference_steps": 50, "strength": 0.02, "guidance_scale": 1},  # one step
        **{"num_images": 4, "output_format": "png", "image_encoding": "data_uri"},
    }


def realtime(application: Application, query: str = "") -> connect:
    url = application.url.replace("http", "ws", 1)
    return connect(f"{url}/glimpse/miniature/realtime{query}", max_size=None)


def slow_reader(application: Application) -> connect:
    """Its socket takes little, and nothing more is read until it is asked for."""
    address = application.url.removeprefix("http://").split(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((address[0], int(address[1])))
    url = f"{application.url.replace('http', 'ws', 1)}/realtime"
    return connect(url, sock=narrow, max_size=None, max_queue=1, ping_interval=None)


async def ask(session: ClientConnection, **fields: Any) -> dict[str, Any]:
    """The answer to a message: a result, or an error."""
    await session.send(msgpack.packb(fields))
    return await answer(session)


async def flood(session: ClientConnection, content: bytes) -> None:
    """Sends it in frame after frame, as fast as can be, until the session is ended."""
    frame = Frame(Opcode.BINARY, content).serialize(mask=True)
    frames = frame * (2**20 // len(frame) + 1)
    while session.state is State.OPEN:
        if not session.transport.get_write_buffer_size():
            session.transport.write(frames)
        await asyncio.sleep(0)


async def answer(session: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(60):
        return decoded(await session.recv())


async def unread(session: ClientConnection) -> AsyncIterator[bytes | str]:
    """What came before it was closed."""
    with suppress(ConnectionClosed):
        while True:
            yield await session.recv()


def decoded(frame: bytes | str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame)
    return fields


def pixels(result: dict[str, Any]) -> NDArray[Any]:
    """Of a finished picture, in either encoding."""
    assert result["type"] == "final", result
    image = result["image"]
    data = image["content"] if "content" in image else b64decode(image["url"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)), dtype=int)


@asynccontextmanager
async def bystander(
    application: Application, pause_s: float = 0.0
) -> AsyncIterator[list[dict[str, Any]]]:
    """A session that gets its pictures all the while; those of the same seed are the same."""
    results: list[dict[str, Any]] = []

    async def draw() -> None:
        async with realtime(application) as connection:
            while True:
                results.append(
                    await ask(connection, prompt=PROMPT, seed=len(results) % 2, output_format="png")
                )
                await asyncio.sleep(pause_s)

    drawing = asyncio.create_task(draw())
    try:
        yield results
        async with asyncio.timeout(60):
            while len(results) < 3 and not drawing.done():
                await asyncio.sleep(0.01)
    finally:
        drawing.cancel()
        await asyncio.wait({drawing})
    assert drawing.cancelled(), drawing.exception()
    for earlier, later in zip(results, results[2:], strict=False):
        assert np.abs(pixels(earlier) - pixels(later)).max() <= 2  # as batches round


class Peak:
    """The most that an actor has in memory while the block runs, beyond what it had before."""

    def __init__(self, application: Application, actor: str) -> None:
        self._application = application
        self._actor = actor
        self._before = application.memory(actor)
        self.bytes = 0

    async def __aenter__(self) -> "Peak":
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        await asyncio.wait({self._watching})

    async def _watch(self) -> None:
        while True:
            now = await asyncio.to_thread(self._application.memory, self._actor)
            self.bytes = max(self.bytes, now - self._before)
            await asyncio.sleep(0.05)
