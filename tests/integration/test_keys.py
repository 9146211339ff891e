"""Keys over two replicas of the ingress: one count for both. And who does not start without."""

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest
import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from config.keys import create, revoke
from config.settings import ROOT
from tests.integration.application import Application, eventually

QUICK = {"prompt": "a house", "num_inference_steps": 1, "preview_every": 0}
# Longer than anything here waits: a hundred steps of sixteen rows at once.
LONG = {"prompt": "a house", "num_inference_steps": 100, "num_images": 4, "preview_every": 1}
LEASE_S = 3


class Keys:
    """The file, and what is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plain = create(path, "plain", {})
        self.hurried = create(path, "hurried", {"requests_per_minute": 8})
        self.narrow = create(path, "narrow", {"concurrent_requests": 2})
        self.interactive = create(path, "interactive", {"sessions": 4})
        self.small = create(path, "small", {"pictures": 6})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def application(default_config: dict[str, Any], keys: Keys) -> Iterator[Application]:
    """The default application, but for its keys and a second ingress."""
    config = json.loads(json.dumps(default_config))
    [wanted] = config["applications"]
    wanted["args"]["access"] = {"keys_file": str(keys.path), "lease_s": LEASE_S}
    ingress = wanted["deployments"][0]
    assert ingress["name"] == "Ingress"
    ingress["autoscaling_config"].update(min_replicas=2, max_replicas=2)
    with Application(config) as running:
        eventually(lambda: running.replicas("Ingress") == 2)
        yield running


def ask(application: Application, key: str, **fields: Any) -> httpx.Response:
    """Over a connection of its own, so that either replica may get it."""
    headers = {"authorization": f"Key {key}"}
    return httpx.post(application.url, json=QUICK | fields, headers=headers, timeout=60)


@contextlib.contextmanager
def streaming(application: Application, key: str) -> Iterator[httpx.Response]:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.stream(
        "POST", f"{application.url}/stream", json=LONG, headers=headers, timeout=60
    ) as answer:
        yield answer


def ingresses_seen(application: Application) -> set[str]:
    """The processes that have answered a POST."""
    return set(re.findall(r"Ingress pid=(\d+)\).*POST / 200", application.logs()))


def test_a_key_is_due_and_counts_as_soon_as_the_file_has_it(
    application: Application, keys: Keys
) -> None:
    assert httpx.post(application.url, json=QUICK).status_code == 401
    assert httpx.get(f"{application.url}/").status_code == 200
    assert ask(application, "any").status_code == 401
    assert ask(application, keys.plain).status_code == 200
    new = create(keys.path, "new", {})
    assert ask(application, new).status_code == 200
    revoke(keys.path, "new")
    for _ in range(8):
        assert ask(application, new).status_code == 401


def test_a_minute_is_counted_over_both_replicas(application: Application, keys: Keys) -> None:
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda _: ask(application, keys.hurried), range(24)))
    assert sorted(answer.status_code for answer in answers) == [200] * 8 + [429] * 16
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    assert ask(application, keys.plain).status_code == 200
    eventually(lambda: len(ingresses_seen(application)) == 2, 10)


def test_open_streams_are_counted_over_both_replicas(application: Application, keys: Keys) -> None:
    with contextlib.ExitStack() as streams:
        opened = [streams.enter_context(streaming(application, keys.narrow)) for _ in range(2)]
        assert [answer.status_code for answer in opened] == [200, 200]
        for _ in range(8):
            answer = ask(application, keys.narrow)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert ask(application, keys.plain).status_code == 200
    eventually(lambda: ask(application, keys.narrow).status_code == 200, LEASE_S)


def test_pictures_are_counted_over_both_replicas(application: Application, keys: Keys) -> None:
    with streaming(application, keys.small) as answer:
        assert answer.status_code == 200
        for _ in range(8):
            answer = ask(application, keys.small, num_images=4)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert "6 pictures in progress" in answer.json()["message"]
        assert ask(application, keys.small, num_images=2).status_code == 200
        assert ask(application, keys.plain, num_images=4).status_code == 200
    eventually(lambda: ask(application, keys.small, num_images=4).status_code == 200, LEASE_S)


async def session(application: Application, key: str) -> ClientConnection | None:
    """None where it is refused in its handshake."""
    url = f"{application.url.replace('http', 'ws', 1)}/realtime"
    headers = {"authorization": f"Key {key}"}
    try:
        connection = await connect(url, additional_headers=headers, open_timeout=60)
    except InvalidStatus as refused:
        assert refused.response.status_code == 403
        return None
    await connection.send(msgpack.packb({"prompt": "a house", "num_inference_steps": 1}))
    assert msgpack.unpackb(await connection.recv())["type"] == "final"
    return connection


async def test_sessions_are_counted_over_both_replicas(
    application: Application, keys: Keys
) -> None:
    async def come() -> list[ClientConnection]:
        asked = await asyncio.gather(*(session(application, keys.interactive) for _ in range(12)))
        return [connection for connection in asked if connection is not None]

    async def eventually_come(most: int) -> list[ClientConnection]:
        async with asyncio.timeout(60):
            while not (opened := await come()):
                await asyncio.sleep(0.1)
        assert len(opened) <= most
        return opened

    def both_have_some() -> bool:
        new = application.logs()[logged:]
        return len(set(re.findall(r"Ingress pid=(\d+)\).*accepted", new))) == 2

    logged = len(application.logs())
    opened = await come()
    assert len(opened) == 4
    await asyncio.to_thread(eventually, both_have_some, 10)
    other = await session(application, keys.plain)
    assert other is not None
    for connection in opened[:2]:  # one says goodbye, the other does not
        await connection.close() if connection is opened[0] else connection.transport.abort()
    again = await eventually_come(2)
    for connection in (*opened[2:], *again, other):
        await connection.close()
    opened = []
    while len(opened) < 4:  # all places are free again, and there are not more of them
        opened += await eventually_come(4 - len(opened))
    assert await session(application, keys.interactive) is None
    for connection in opened:
        await connection.close()


def test_where_nobody_counts_nobody_comes_in_and_what_is_open_is_counted_again(
    application: Application, keys: Keys
) -> None:
    application.kill("KeyLimits")
    answer = ask(application, keys.plain)
    assert answer.status_code in (200, 503)  # it may be back within the patience of the ingress
    if answer.status_code == 503:
        assert answer.json()["error_type"] == "access_unavailable"
        assert answer.headers["retry-after"] == "2"
    eventually(lambda: ask(application, keys.plain).status_code == 200)


def test_what_an_ingress_had_open_when_it_died_is_forgotten(
    application: Application, keys: Keys
) -> None:
    with contextlib.ExitStack() as streams:
        for _ in range(2):
            assert streams.enter_context(streaming(application, keys.narrow)).status_code == 200
        assert ask(application, keys.narrow).status_code == 429
        application.kill("Ingress")

    def admitted() -> bool:
        try:
            return ask(application, keys.narrow).status_code == 200
        except httpx.TransportError:
            return False

    eventually(admitted)
    eventually(lambda: application.replicas("Ingress") == 2)


@pytest.mark.parametrize(
    ("access", "mode", "said"),
    [
        ({}, "token", "no key is due"),
        ({"keys_file": "/nowhere/keys.json"}, "token", "No such file"),
        ({"keys_file": "/nowhere/keys.json"}, "disabled", "Ray's own ports ask for no token"),
    ],
)
def test_an_application_that_everybody_could_use_does_not_start(
    access: dict[str, str], mode: str, said: str
) -> None:
    """`serve run` by itself, without our check of the config. Its host is loopback in truth, but
    not to anybody who has not looked it up."""
    config = yaml.safe_load((ROOT / "config/profiles/fused.yaml").read_text())
    config["applications"][0]["args"]["access"] = access
    with pytest.raises(RuntimeError, match=said):
        with Application(config, host="127.1", env={"RAY_AUTH_MODE": mode}):
            pass
