"""Behind Serve's own proxy, which takes whatever either side sends: the budgets of a session bound
what it keeps in memory."""

import asyncio
import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode

from tests.integration.application import Application
from tests.integration.sessions import (
    PROMPT,
    Peak,
    bystander,
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
GROWTH = 50 * 2**20
PAUSE_S = 0.5  # of a bystander, so that its own pictures remain within the budget

FLOODS = {
    "large": (msgpack.packb({"prompt": PROMPT, "sync_mode": os.urandom(2**20)}), "INPUT_BUDGET"),
    "small": (msgpack.packb({}), "RATE_LIMITED"),
    "empty": (b"", "RATE_LIMITED"),
}


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


def ended(application: Application) -> int:
    """Sessions that were sent too much: the server says so in its log, as nobody reads."""
    return application.logs().count("a session ends: OUTPUT_BUDGET")


async def ask_for_much(application: Application, connection: ClientConnection) -> None:
    """Until the server has had enough."""
    before = ended(application)
    await connection.send(msgpack.packb(large()))
    while ended(application) == before:
        await connection.send(msgpack.packb({}))
        await asyncio.sleep(0.2)


async def test_who_does_not_read_is_ended_and_the_proxy_keeps_no_more_than_the_budget(
    application: Application, record_property: Callable[[str, object], None]
) -> None:
    async with (
        asyncio.timeout(90),
        bystander(application, PAUSE_S),
        slow_reader(application) as connection,
    ):
        async with Peak(application, "ProxyActor") as peak:
            await ask_for_much(application, connection)
        frames = [frame async for frame in unread(connection)]  # when it reads at last
    assert connection.close_code == 1008
    assert decoded(frames[-1])["error"] == "OUTPUT_BUDGET"
    assert sum(map(len, frames)) < 1.1 * OUTPUT_BYTES
    record_property("proxy_grew_by_bytes", peak.bytes)
    print(f"a session that does not read: proxy +{peak.bytes / 2**20:.1f} MiB")
    assert peak.bytes < GROWTH


def flood_on(connection: ClientConnection) -> None:
    frame = Frame(Opcode.BINARY, FLOODS["large"][0]).serialize(mask=True)
    connection.transport.write(frame * 256)


def close_half(connection: ClientConnection) -> None:
    connection.transport.write_eof()


@pytest.mark.parametrize("then", [flood_on, close_half])
async def test_who_never_reads_is_cut_off(
    application: Application,
    record_property: Callable[[str, object], None],
    then: Callable[[ClientConnection], None],
) -> None:
    """What the proxy has for it goes with it; and it is read no further than so far."""
    connection = await slow_reader(application)
    port = connection.local_address[1]

    def known_to_the_proxy() -> bool:
        [proxy] = application.actors("ProxyActor")
        return any(peer.raddr and peer.raddr.port == port for peer in proxy.net_connections())

    async with bystander(application, PAUSE_S), Peak(application, "ProxyActor") as peak:
        async with asyncio.timeout(60):
            await ask_for_much(application, connection)
        assert known_to_the_proxy()
        then(connection)
        async with asyncio.timeout(120):
            while await asyncio.to_thread(known_to_the_proxy):
                await asyncio.sleep(0.5)
    connection.transport.abort()
    record_property("proxy_grew_by_bytes", peak.bytes)
    print(f"one that never reads, {then.__name__}: proxy +{peak.bytes / 2**20:.1f} MiB")
    assert peak.bytes < GROWTH


@pytest.mark.parametrize("what", FLOODS)
async def test_a_flood_ends_its_session_and_is_not_kept_by_the_proxy(
    application: Application, record_property: Callable[[str, object], None], what: str
) -> None:
    """Of frames that a session may send, each of them."""
    content, error = FLOODS[what]
    async with (
        asyncio.timeout(60),
        bystander(application, PAUSE_S),
        realtime(application) as connection,
    ):
        async with Peak(application, "ProxyActor") as peak, asyncio.TaskGroup() as group:
            group.create_task(flood(connection, content))
            told = [answer async for answer in unread(connection)]
    assert connection.close_code == 1008
    assert decoded(told[-1])["error"] == error
    record_property("proxy_grew_by_bytes", peak.bytes)
    print(f"a flood of {what} frames: proxy +{peak.bytes / 2**20:.1f} MiB")
    assert peak.bytes < GROWTH
