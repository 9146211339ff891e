"""The load: clients of `/stream` and realtime sessions, each in a loop, whose pictures are held
against those that were made before with nobody else there."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgpack
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.client import TIMEOUT, generate
from benchmarks.realtime_client import ask, connected
from benchmarks.recovery.seen import Message, Stream
from benchmarks.task import PROMPTS

Pixels = NDArray[np.int16]

SEEDS = 2
PAUSE_S = 0.5  # of a client whose request has failed, before the next
PATIENCE_S = 330.0  # more than the server's own deadline
POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Crowd:
    streams: int
    sessions: int


class Clients:
    def __init__(self, url: str, crowd: Crowd, steps: int) -> None:
        self.streams: list[Stream] = []
        self.messages: list[Message] = []
        self._newest: dict[int, Stream] = {}  # of each client
        self._url = url
        self._crowd = crowd
        self._steps = steps
        self._pictures = [
            {
                "prompt": prompt,
                "seed": seed,
                "num_inference_steps": steps,
                "progress": True,
                "output_format": "png",
            }
            for prompt in PROMPTS
            for seed in range(SEEDS)
        ]
        self._sketches = [
            {"prompt": PROMPTS[0], "seed": seed, "output_format": "png"}
            for seed in range(crowd.sessions)
        ]
        self._pictures_alone: list[Pixels] = []
        self._sketches_alone: list[Pixels] = []
        self._over = asyncio.Event()

    async def make_references(self) -> None:
        """Each picture alone, undisturbed."""
        async with httpx.AsyncClient(base_url=self._url) as client:
            for fields in self._pictures:
                received = await generate(client, {**fields, "progress": False})
                self._pictures_alone.append(_pixels(received.picture))
        async with connected(self._url) as connection:
            for fields in self._sketches:
                result = (await ask(connection, fields)).result
                self._sketches_alone.append(_pixels(result["image"]["content"]))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """In the end everyone waits for the picture that is being made."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with (
            httpx.AsyncClient(base_url=self._url, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            for index in range(self._crowd.streams):
                group.create_task(self._keep_streaming(client, index))
            for index in range(self._crowd.sessions):
                group.create_task(self._keep_talking(index))
            yield
            self._over.set()

    def in_flight(self, at: float) -> list[Stream]:
        return [stream for stream in self.streams if stream.in_flight(at)]

    def speaking(self, at: float) -> list[Message]:
        return [message for message in self.messages if message.in_flight(at)]

    async def until_begun(self, count: int, step: int, *, decoding: bool = False) -> None:
        """Until so many streams at once have made a step, and are not at their last steps; with
        `decoding`, until another one has made its last."""
        last = self._steps - step
        async with asyncio.timeout(PATIENCE_S):
            while True:
                open_now = [stream for stream in self._newest.values() if stream.end is None]
                steps = [stream.last_step(time.time()) for stream in open_now]
                begun = sum(step <= made <= last for made in steps)
                if begun >= count and (not decoding or self._steps in steps):
                    return
                await asyncio.sleep(POLL_S)

    async def _keep_streaming(self, client: httpx.AsyncClient, index: int) -> None:
        turn = 0
        while not self._over.is_set():
            which = (index + turn) % len(self._pictures)
            stream = Stream(f"stream-{index}-{turn}", time.time())
            self.streams.append(stream)
            self._newest[index] = stream
            fields = {**self._pictures[which], "request_id": stream.request_id}
            picture = await _followed(client, fields, stream)
            if picture is None:
                await asyncio.sleep(PAUSE_S)
            else:
                stream.difference = _difference(picture, self._pictures_alone[which])
            turn += 1

    async def _keep_talking(self, index: int) -> None:
        turn = 0
        while not self._over.is_set():
            began = time.time()
            try:
                async with connected(self._url) as connection:
                    while not self._over.is_set():
                        message = Message(index, f"session-{index}-{turn}", time.time())
                        self.messages.append(message)
                        turn += 1
                        if not await self._answered(connection, message):
                            break
            except (OSError, TimeoutError, WebSocketException) as failure:
                message = Message(index, f"session-{index}-{turn}", began)
                message.finish(time.time(), "refused", _named(failure))
                self.messages.append(message)
                turn += 1
            if not self._over.is_set():
                await asyncio.sleep(PAUSE_S)

    async def _answered(self, connection: ClientConnection, message: Message) -> bool:
        """Whether the session goes on."""
        fields = {**self._sketches[message.session], "request_id": message.request_id}
        try:
            async with asyncio.timeout(PATIENCE_S):
                await connection.send(msgpack.packb(fields))
                frame = await connection.recv()
        except ConnectionClosed as closed:
            code = 1006 if closed.rcvd is None else closed.rcvd.code
            message.finish(time.time(), "cut", f"closed with {code}")
            return False
        except TimeoutError:
            message.finish(time.time(), "cut", f"no answer in {PATIENCE_S:g} s")
            return False
        if isinstance(frame, str):
            message.finish(time.time(), "failed", str(json.loads(frame)["error"]))
        else:
            message.finish(time.time(), "final")
            picture = msgpack.unpackb(frame)["image"]["content"]
            message.difference = _difference(picture, self._sketches_alone[message.session])
        return True


async def _followed(
    client: httpx.AsyncClient, fields: Mapping[str, Any], stream: Stream
) -> bytes | None:
    """The picture, where there is one; everything else is the stream's record."""
    picture = None
    try:
        async with (
            asyncio.timeout(PATIENCE_S),
            client.stream("POST", "/stream", json=fields, timeout=TIMEOUT) as response,
        ):
            if response.status_code != 200:
                stream.finish(time.time(), "refused", f"HTTP {response.status_code}")
                return None
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    picture = _heard(json.loads(line[6:]), stream) or picture
    except httpx.ConnectError:
        stream.finish(time.time(), "refused", "no connection")
    except TimeoutError:
        stream.finish(time.time(), "cut", f"no end in {PATIENCE_S:g} s")
    except httpx.TransportError as failure:
        stream.finish(time.time(), "cut", _named(failure))
    stream.finish(time.time(), "cut", "it ended without a picture")
    return picture


def _heard(event: Mapping[str, Any], stream: Stream) -> bytes | None:
    now = time.time()
    match event.get("type"):
        case "final":
            stream.finish(now, "final")
            return base64.b64decode(event["image"]["url"].partition(",")[2])
        case "progress" | "preview" as kind:
            stream.hear(now, kind, event["step"])
        case _:
            stream.finish(now, "failed", event["error"]["code"])
    return None


def _named(failure: BaseException) -> str:
    return type(failure).__name__


def _pixels(picture: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(picture)), np.int16)


def _difference(picture: bytes, reference: Pixels) -> int:
    return int(np.abs(_pixels(picture) - reference).max())
