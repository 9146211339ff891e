"""A client of `/realtime` that looks at the clock: msgpack over `websockets`, not compressed."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException

from benchmarks.processes import working
from benchmarks.samples import Summary, summary
from benchmarks.server import POLL_S, READY_TIMEOUT_S, Server


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, and the seconds from packing the message to having unpacked it."""

    seconds: float
    result: dict[str, Any]

    @property
    def model_s(self) -> float | None:
        """The model's own time, where the server tells it: denoising and decoding, the work alone.
        With some sessions at once, also that of the others in the same batch."""
        timings = self.result.get("timings")
        return None if timings is None else timings["denoise"] + timings["decode"]


def connected(server_url: str, **options: Any) -> connect:
    return connect(
        f"{server_url.replace('http', 'ws', 1)}/realtime",
        compression=None,
        max_size=None,
        ping_interval=None,  # a server that is stopped for another's turn would not answer
        proxy=None,
        **options,
    )


async def ask(connection: ClientConnection, fields: Mapping[str, Any]) -> Answer:
    """Raises `RuntimeError` for anything but a finished picture."""
    began = time.perf_counter()
    await connection.send(msgpack.packb(fields))
    frame = await connection.recv()
    result = None if isinstance(frame, str) else msgpack.unpackb(frame)
    seconds = time.perf_counter() - began
    if result is None:
        raise RuntimeError(f"the server answers: {frame!r}")
    return Answer(seconds, result)


async def first_answer(server: Server, fields: Mapping[str, Any]) -> Answer:
    """Tries again and again until the server takes the message."""
    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            server.check_alive()
            try:
                async with connected(server.url) as connection:
                    return await ask(connection, fields)
            except (OSError, WebSocketException, RuntimeError):
                await asyncio.sleep(POLL_S)


async def own_cost(fields: Mapping[str, Any], answer: Answer, count: int) -> Summary:
    """Seconds of a round trip to a bare server in another process, which at once sends what the
    answer was: what the client itself takes, and the machine's network."""
    with working(_canned, msgpack.packb(answer.result)) as (process, _):
        async with connected(f"http://127.0.0.1:{process.recv()}") as connection:
            seconds = [(await ask(connection, fields)).seconds for _ in range(count)]
    return summary(seconds)


def _canned(process: Connection, frame: bytes) -> None:
    async def answer(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(frame)

    async def run() -> None:
        async with serve(answer, "127.0.0.1", 0, compression=None) as server:
            process.send(next(iter(server.sockets)).getsockname()[1])
            await asyncio.to_thread(process.recv)

    asyncio.run(run())
