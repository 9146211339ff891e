"""A realtime session for tests: msgpack over a WebSocket, by hand."""

import asyncio
import io
import json
from base64 import b64decode
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect

from tests.integration.application import Application

PROMPT = "a windmill on green hills"
STEPS = 4  # of a message that does not say how many


def realtime(application: Application, query: str = "") -> connect:
    url = application.url.replace("http", "ws", 1)
    return connect(f"{url}/glimpse/miniature/realtime{query}", max_size=None)


async def ask(session: ClientConnection, **fields: Any) -> dict[str, Any]:
    """The answer to a message: a result, or an error."""
    await session.send(msgpack.packb(fields))
    return await answer(session)


async def answer(session: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(60):
        return decoded(await session.recv())


def decoded(frame: bytes | str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame)
    return fields


def pixels(result: dict[str, Any]) -> NDArray[Any]:
    """Of a finished picture, in either encoding."""
    assert result["type"] == "final", result
    image = result["image"]
    data = image["content"] if "content" in image else b64decode(image["url"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)), dtype=int)
