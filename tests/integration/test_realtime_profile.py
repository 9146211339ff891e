"""config/profiles/realtime.yaml, in a network of its own: HAProxy listens on every interface."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryDirectory

import httpx
import msgpack
import pytest
import yaml
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from config.settings import ROOT, AppSettings
from tests.integration.application import Application, eventually
from tests.integration.network import own_network
from tests.integration.sessions import (
    LARGE_STEPS,
    PROMPT,
    STEPS,
    Peak,
    answer,
    ask,
    bystander,
    decoded,
    flood,
    large,
    realtime,
    slow_reader,
    unread,
)
from tests.integration.test_http_clients import BODY, LENGTH, POST, Client
from tests.variables import variables

PROFILE = ROOT / "config" / "profiles" / "realtime.yaml"
MESSAGES = 60  # the sockets on the way hold about thirty answers
GROWTH = 50 * 2**20


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    with ExitStack() as stack:
        # Serve would have one for all that run on the machine. Its path is short, for a socket's.
        folder = stack.enter_context(TemporaryDirectory(prefix="gl-", dir="/tmp"))
        env = {
            **variables(PROFILE.with_suffix(".env")),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # and not half a minute
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        }
        try:
            stack.enter_context(own_network())
        except PermissionError:
            pytest.skip("needs a network namespace, which root may make")
        config = yaml.safe_load(PROFILE.read_text())
        yield stack.enter_context(Application(config, env=env))


async def test_every_door_is_open_behind_haproxy(application: Application) -> None:
    wanted = {"prompt": PROMPT, "seed": 1, "num_inference_steps": STEPS}
    async with httpx.AsyncClient(base_url=application.url, timeout=60) as client:
        final = (await client.post("/", json=wanted)).json()
        events = (await client.post("/stream", json={**wanted, "preview_every": 2})).text
        models = (await client.get("/v1/models")).json()
    assert final["type"] == "final"
    kinds = [json.loads(line[6:])["type"] for line in events.splitlines() if "data: " in line]
    assert kinds == ["preview", "preview", "final"]
    assert models["data"]
    async with realtime(application) as session:
        assert (await ask(session, **wanted))["seed"] == 1
        await session.send("text")
        assert (await answer(session))["error"] == "INVALID_MESSAGE"
    assert session.close_code == 1000
    async with realtime(application, "?max_buffering=none") as session:
        assert (await answer(session))["error"] == "INVALID_REQUEST"
        with pytest.raises(ConnectionClosed):
            await session.recv()
    assert session.close_code == 1008


def test_the_same_requests_are_taken_behind_haproxy_as_behind_serves_proxy(
    application: Application,
) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    with Client(application) as client:
        client.send(POST % (b"/", b"1.1", offer) + LENGTH + BODY)
        client.send(POST % (b"/stream", b"1.0", b"") + LENGTH + BODY)
        read = client.read()
    assert read.count(b" 200 OK\r\n") == 2 and read.count(b'"final"') == 2
    assert read.endswith(b"\n\n")  # of the stream, not of its last chunk
    host = {"host": "10.1.2.3:8000"}
    assert httpx.head(f"{application.url}/health", headers=host).status_code == 200
    assert httpx.get(application.url, headers=host).status_code == 421
    assert httpx.get(f"{application.url}/-/healthz").status_code == 200
    for value in (b"\xff", b"a b"):
        headers = [(b"x-request-id", value), (b"x-session-id", value)]
        assert httpx.get(f"{application.url}/v1/models", headers=headers).status_code == 200
    with pytest.raises(InvalidStatus) as refused:
        connect(application.url.replace("http", "ws", 1) + "/nothing")
    assert refused.value.response.status_code == 404


async def test_of_what_a_client_does_not_read_the_newest_is_kept(application: Application) -> None:
    def all_made(steps: int) -> bool:
        return application.steps_run() >= steps

    async with realtime(application) as another, slow_reader(application) as session:
        assert (await ask(session, **large()))["type"] == "final"
        before, memory = application.steps_run(), application.memory("ServeReplica:glimpse:Fused")
        for seed in range(MESSAGES):
            await session.send(msgpack.packb({"seed": seed}))
            made = before + (seed + 1) * LARGE_STEPS
            await asyncio.to_thread(eventually, partial(all_made, made))
        assert (await ask(another, prompt=PROMPT))["type"] == "final"
        growth = application.memory("ServeReplica:glimpse:Fused") - memory
        results = [await answer(session)]
        while results[-1]["seed"] != MESSAGES - 1:
            results.append(await answer(session))
        assert (await ask(session, seed=1000))["seed"] == 1000  # and it goes on
    seeds = [result["seed"] for result in results]
    print(f"{len(seeds)} of {MESSAGES} came: {seeds}; the replica grew by {growth / 2**20:.1f} MiB")
    unsent = AppSettings().realtime.max_unsent
    assert seeds == sorted(seeds) and seeds[-unsent:] == [*range(MESSAGES)][-unsent:]
    assert len(seeds) < MESSAGES == len(seeds) + sum(result["dropped"] for result in results)
    assert growth < GROWTH


async def test_a_flood_ends_its_session_and_is_not_kept(application: Application) -> None:
    async with asyncio.timeout(60), bystander(application), realtime(application) as session:
        assert session.protocol.extensions == []  # though the client offers compression
        async with (
            Peak(application, "ServeReplica:glimpse:Fused") as peak,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(flood(session, msgpack.packb({})))
            told = [answer async for answer in unread(session)]
    assert session.close_code == 1008
    assert decoded(told[-1])["error"] == "RATE_LIMITED"
    print(f"a flood of small frames: the replica +{peak.bytes / 2**20:.1f} MiB")
    assert peak.bytes < GROWTH
