"""One key takes every place and asks for more all the time. Another key's picture begins soon."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from config.keys import create
from config.settings import ROOT
from tests.integration.application import Application

MAX_PICTURES = 8
PICTURE = {"prompt": "a house", "num_inference_steps": 6, "preview_every": 0}
# Of many sizes, so that they share no calls of the network.
SIZES = [{"width": side, "height": 128} for side in (64, 96, 128, 160, 192, 224)]
UNLIMITED: dict[str, int | None] = {
    "requests_per_minute": 10**6,
    "concurrent_requests": 100,
    "pictures": 100,
}


class Keys:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.many = create(path, "many", UNLIMITED)
        self.one = create(path, "one", {})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def application(keys: Keys) -> Iterator[Application]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/profiles/fused.yaml").read_text())
    [wanted] = config["applications"]
    wanted["args"]["access"] = {"keys_file": str(keys.path)}
    wanted["args"]["ingress"] = {"max_pictures": MAX_PICTURES, "place_wait_s": 60}
    with Application(config) as running:
        yield running


class Greedy:
    """A client that asks again as soon as it has a picture or is refused."""

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Key {key}"}
        self.answers: Counter[int] = Counter()

    async def ask(self, number: int) -> None:
        fields = PICTURE | SIZES[number % len(SIZES)]
        while True:
            answer = await self._client.post("/", json=fields, headers=self._headers)
            assert answer.status_code in (200, 429), answer.text
            self.answers[answer.status_code] += 1
            if answer.status_code == 429:  # refusals alone would keep the machine busy
                await asyncio.sleep(0.05)


@asynccontextmanager
async def greedily(application: Application, key: str) -> AsyncIterator[Greedy]:
    """Once every place has been given back, and requests have been refused."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=application.url, timeout=120, limits=limits) as client:
        greedy = Greedy(client, key)
        asking = [asyncio.create_task(greedy.ask(number)) for number in range(2 * MAX_PICTURES)]
        async with asyncio.timeout(120):
            while greedy.answers[200] < MAX_PICTURES or not greedy.answers[429]:
                assert not any(task.done() for task in asking)
                await asyncio.sleep(0.01)
        yield greedy
        assert not any(task.done() for task in asking)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


async def test_the_first_picture_of_another_key_begins_within_the_time_of_one(
    application: Application, keys: Keys
) -> None:
    """In that time each of the places is given back once."""
    headers = {"authorization": f"Key {keys.one}"}
    async with (
        greedily(application, keys.many) as greedy,
        httpx.AsyncClient(base_url=application.url, timeout=120) as client,
    ):
        for _ in range(3):
            before = greedy.answers[200]
            fields = PICTURE | {"progress": True}
            async with client.stream("POST", "/stream", json=fields, headers=headers) as answer:
                assert answer.status_code == 200
                events = (line async for line in answer.aiter_lines() if line.startswith("data:"))
                first = json.loads((await anext(events))[5:])
                meanwhile = greedy.answers[200] - before
                assert (first["type"], first["step"]) == ("progress", 1)
                assert meanwhile <= MAX_PICTURES
                *_, final = [json.loads(line[5:]) async for line in events]
                assert final["type"] == "final"
