"""Two ingresses: `max_pictures` and `max_sessions` count for both together, whatever happens to the
actor that counts; and their trials come one after another."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import psutil
import pytest
import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from config.settings import ROOT
from tests.integration.application import Application, eventually
from tests.integration.sessions import ask

MAX_PICTURES, MAX_SESSIONS = 64, 12
PLACE_WAIT_S = 5
# Longer than anything here waits: a hundred steps of 64 rows.
LONG = {"prompt": "a house", "num_inference_steps": 100, "progress": True, "preview_every": 0}
SHORT = {"prompt": "a house", "num_inference_steps": 4, "preview_every": 0}


def _config(**scaling: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    [wanted] = config["applications"]
    wanted["args"] = {
        "ingress": {"max_pictures": MAX_PICTURES, "place_wait_s": PLACE_WAIT_S},
        "realtime": {"max_sessions": MAX_SESSIONS},
    }
    [ingress] = [each for each in wanted["deployments"] if each["name"] == "Ingress"]
    ingress["autoscaling_config"].update(scaling)
    return config


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    """It grows from one ingress to two."""
    scaling = {"max_replicas": 2, "target_ongoing_requests": 10, "upscale_delay_s": 1}
    with Application(_config(**scaling)) as running:
        assert running.replicas("Ingress") == 1 and running.actors("Shared") == []
        asyncio.run(_grow(running))
        eventually(lambda: running.replicas("Ingress") == 2)
        eventually(lambda: len(running.actors("Shared")) == 1)
        yield running


async def _grow(application: Application) -> None:
    """While the first ingress has most of the places in use."""
    async with AsyncExitStack() as streams, clients(application) as client:
        assert Counter(await opened(client, streams, 50)) == {200: 50}
        await asyncio.to_thread(eventually, lambda: application.replicas("Ingress") == 2)
        await asyncio.to_thread(eventually, lambda: len(application.actors("Shared")) == 1)
        assert Counter(await opened(client, streams, 30)) == {200: 14, 429: 16}


@asynccontextmanager
async def clients(application: Application) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=application.url, timeout=120, limits=limits) as client:
        yield client


async def opened(client: httpx.AsyncClient, streams: AsyncExitStack, count: int) -> list[int]:
    """The statuses of so many streams, asked for at once. They stay open."""

    async def one() -> int:
        answer = await streams.enter_async_context(client.stream("POST", "/stream", json=LONG))
        return answer.status_code

    return await asyncio.gather(*(one() for _ in range(count)))


def killed(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


async def all_are_free(application: Application) -> None:
    """Returns once every place is free, which takes a moment after the clients have left."""
    async with asyncio.timeout(60):
        while True:
            async with AsyncExitStack() as streams, clients(application) as client:
                if await opened(client, streams, MAX_PICTURES) == [200] * MAX_PICTURES:
                    return


async def test_requests_at_once_fill_every_place_of_both(application: Application) -> None:
    async with AsyncExitStack() as streams, clients(application) as client:
        assert Counter(await opened(client, streams, 80)) == {200: 64, 429: 16}
    await all_are_free(application)


async def test_who_waits_gets_the_places_that_others_give_back(application: Application) -> None:
    """Whichever ingress each of them is at. Without keys each connection is an owner."""
    async with AsyncExitStack() as waiting, clients(application) as client:
        async with AsyncExitStack() as streams:
            assert Counter(await opened(client, streams, MAX_PICTURES)) == {200: MAX_PICTURES}
            asked = asyncio.create_task(opened(client, waiting, 16))
            await asyncio.sleep(1)
            assert not asked.done()
        assert Counter(await asked) == {200: 16}
    await all_are_free(application)


async def test_short_pictures_at_once(application: Application) -> None:
    async with clients(application) as client:
        answers = await asyncio.gather(*(client.post("/", json=SHORT) for _ in range(80)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[200] + statuses[429] == 80
    assert statuses[200] >= 64, statuses  # more where some are ready before the last has come
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["error_type"] == "overloaded"


async def test_sessions_at_once_fill_every_place_of_both(application: Application) -> None:
    async def session() -> ClientConnection | None:
        connection = await connect(
            f"{application.url.replace('http', 'ws', 1)}/realtime", open_timeout=60
        )
        try:
            told = await ask(connection, prompt="a house", num_inference_steps=1)
        except ConnectionClosed:
            told = {"type": "closed"}
        if told["type"] == "final":
            return connection
        await connection.wait_closed()
        assert connection.close_code == 1013
        return None

    sessions = await asyncio.gather(*(session() for _ in range(20)))
    admitted = [each for each in sessions if each is not None]
    assert len(admitted) == MAX_SESSIONS
    for connection in admitted:
        await connection.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_no_request_fails_when_the_counter_dies_or_hangs(
    application: Application, how: signal.Signals
) -> None:
    async with AsyncExitStack() as streams, clients(application) as client:
        assert Counter(await opened(client, streams, 30)) == {200: 30}
        [counter] = application.actors("Shared")
        counter.send_signal(how)
        streams.callback(killed, counter)
        assert Counter(await opened(client, streams, 34)) == {200: 34}
        assert Counter(await opened(client, streams, 16)) == {429: 16}
        [another] = [each for each in application.actors("Shared") if each != counter]
    await all_are_free(application)


def test_trials_of_both_come_one_after_another(application: Application) -> None:
    assert application.trials() == {
        "it waits": True,
        "a loss beside it": True,
        "a loss of work from before it": True,
        "a loss of another stage": False,
    }


def test_a_trial_whose_ingress_dies_is_over(application: Application) -> None:
    application.trial_whose_ingress_dies()
    eventually(lambda: application.replicas("Ingress") == 2)


async def test_places_of_an_ingress_that_died_are_free_again(application: Application) -> None:
    async with AsyncExitStack() as streams, clients(application) as client:
        assert Counter(await opened(client, streams, 64)) == {200: 64}
        await asyncio.to_thread(application.kill, "Ingress")
    await asyncio.to_thread(eventually, lambda: application.replicas("Ingress") == 2)
    await all_are_free(application)
