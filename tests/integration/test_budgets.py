"""Behind Serve's own proxy, which takes whatever either side sends: the budgets of a session bound
what it keeps in memory."""

import asyncio
import copy
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.integration.application import Application
from tests.integration.sessions import (
    PROMPT,
    Peak,
    ask,
    decoded,
    flood,
    large,
    realtime,
    slow_reader,
    unread,
)

# More than the sockets on the way hold (3 MB), and sent well before the proxy misses the answer
# to a ping, which takes it 40 s.
OUTPUT_BYTES = 6 * 2**20
INPUT_BYTES_PER_S = 2**20
SLOW_READERS = 1
GROWTH = 50 * 2**20


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
    async with (
        Peak(application, "ProxyActor") as peak,
        asyncio.timeout(90),
        asyncio.TaskGroup() as group,
    ):
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


FLOODS = {
    "large": (msgpack.packb({"prompt": PROMPT, "sync_mode": os.urandom(2**20)}), "INPUT_BUDGET"),
    "small": (msgpack.packb({}), "RATE_LIMITED"),
    "empty": (b"", "RATE_LIMITED"),
}


@pytest.mark.parametrize("what", FLOODS)
async def test_a_flood_ends_its_session_and_is_not_kept_by_the_proxy(
    application: Application, record_property: Callable[[str, object], None], what: str
) -> None:
    """Of frames that a session may send, each of them."""
    content, error = FLOODS[what]
    async with realtime(application) as bystander, realtime(application) as connection:
        async with (
            Peak(application, "ProxyActor") as peak,
            asyncio.timeout(60),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(flood(connection, content))
            told = [answer async for answer in unread(connection)]
        assert connection.close_code == 1008
        assert decoded(told[-1])["error"] == error
        assert (await ask(bystander, prompt=PROMPT))["type"] == "final"
    record_property("proxy_grew_by_bytes", peak.bytes)
    print(f"a flood of {what} frames: proxy +{peak.bytes / 2**20:.1f} MiB")
    assert peak.bytes < GROWTH
