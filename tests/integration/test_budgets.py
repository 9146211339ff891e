"""Behind Serve's own proxy, which takes whatever either side sends: the budgets of a session bound
what it keeps in memory."""

import asyncio
import copy
import math
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.integration.application import Application
from tests.integration.sessions import PROMPT, ask, decoded, large, realtime, slow_reader

# More than the sockets on the way hold (3 MB), and sent well before the proxy misses the answer
# to a ping, which takes it 40 s.
OUTPUT_BYTES = 6 * 2**20
INPUT_BYTES_PER_S = 2**20
SLOW_READERS = 1
GROWTH = 50 * 2**20
# Not yet bounded: uvicorn unfolds zeros, to a thousand times their size, before the session can be
# ended. Mostly that is nothing, and now and then 2 GB.
ZEROS_GROWTH = math.inf


@pytest.fixture(scope="module")
def application(default_config: dict[str, Any]) -> Iterator[Application]:
    """The default application, with budgets that a test can reach soon."""
    config = copy.deepcopy(default_config)
    config["applications"][0]["args"]["realtime"] = {
        "max_output_bytes": OUTPUT_BYTES,
        "output_window_s": 600,
        "max_input_bytes_per_s": INPUT_BYTES_PER_S,
    }
    with Application(config) as application:
        yield application


async def unread(connection: ClientConnection) -> AsyncIterator[bytes | str]:
    """What came before it was closed."""
    with suppress(ConnectionClosed):
        while True:
            yield await connection.recv()


class Peak:
    """The most that the proxy has in memory while the block runs, beyond what it had before."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._before = application.memory("ProxyActor")
        self.bytes = 0

    async def __aenter__(self) -> "Peak":
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        await asyncio.wait({self._watching})

    async def _watch(self) -> None:
        while True:
            now = await asyncio.to_thread(self._application.memory, "ProxyActor")
            self.bytes = max(self.bytes, now - self._before)
            await asyncio.sleep(0.05)


async def test_who_does_not_read_is_ended_and_the_proxy_keeps_no_more_than_the_budget(
    application: Application, record_property: Callable[[str, object], None]
) -> None:
    async def ask_for_much(connection: ClientConnection) -> None:
        """Until the server has had enough: it says so in its log, as we do not read."""
        with suppress(ConnectionClosed):
            await connection.send(msgpack.packb(large()))
            while ended() < SLOW_READERS:
                await connection.send(msgpack.packb({}))
                await asyncio.sleep(0.2)

    def ended() -> int:
        return application.logs().count("a session ends: OUTPUT_BUDGET")

    async def bystander() -> None:
        async with realtime(application) as connection:
            while ended() < SLOW_READERS:
                assert (await ask(connection, prompt=PROMPT))["type"] == "final"
                await asyncio.sleep(1)

    connections = [await slow_reader(application) for _ in range(SLOW_READERS)]
    async with Peak(application) as peak, asyncio.timeout(90), asyncio.TaskGroup() as group:
        group.create_task(bystander())
        for connection in connections:
            group.create_task(ask_for_much(connection))
    record_property("proxy_grew_by_bytes", peak.bytes)
    print(f"{SLOW_READERS} sessions that do not read: proxy +{peak.bytes / 2**20:.1f} MiB")
    assert peak.bytes < GROWTH
    for connection in connections:  # and when they read at last
        frames = [frame async for frame in unread(connection)]
        assert connection.close_code == 1008
        assert decoded(frames[-1])["error"] == "OUTPUT_BUDGET"
        assert sum(map(len, frames)) < 1.1 * OUTPUT_BYTES


@pytest.mark.parametrize(
    ("content", "growth"),
    [(os.urandom(2**20), GROWTH), (bytes(2**20), ZEROS_GROWTH)],
    ids=["random", "zeros"],
)
async def test_a_flood_of_large_frames_ends_its_session(
    application: Application,
    record_property: Callable[[str, object], None],
    content: bytes,
    growth: float,
) -> None:
    """Each frame is one that a session may send."""
    frame = msgpack.packb({"prompt": PROMPT, "sync_mode": content})

    async def flood(connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await connection.send(frame)
                await asyncio.sleep(0)  # `send` alone leaves what else is here no time

    async with realtime(application) as bystander, realtime(application) as connection:
        async with Peak(application) as peak, asyncio.timeout(60):
            await flood(connection)
        assert connection.close_code == 1008
        assert decoded([frame async for frame in unread(connection)][-1])["error"] == "INPUT_BUDGET"
        assert (await ask(bystander, prompt=PROMPT))["type"] == "final"
    record_property("proxy_grew_by_bytes", peak.bytes)
    print(f"a flood of large frames: proxy +{peak.bytes / 2**20:.1f} MiB")
    assert peak.bytes < growth
