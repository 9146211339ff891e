"""What one client's input pictures cost another client: how long its pictures take meanwhile.

The first client has a key and sends pictures on as many connections as the key's limits let it.
The second client, with another key, asks for one picture after the other, without an input picture.
"""

import asyncio
import base64
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import httpx
import yaml

from benchmarks.hostile_pictures import SEED, costly_pictures, encoded, noise, refused_pictures
from benchmarks.machine import Machine, describe
from benchmarks.processes import working
from benchmarks.recovery.statistics import Interval, ratio_interval
from benchmarks.server import Server, serving, settings_of
from benchmarks.stored import FOLDER
from benchmarks.task import PROMPTS
from config import keys
from config.settings import AppSettings
from glimpse.errors import InvalidRequest
from glimpse.input_pictures import data_uri
from glimpse.input_pictures.inspection import InputPicture, inspect
from glimpse.input_pictures.reading import read_pixels

PATH = FOLDER / "neighbours.json"
TIMEOUT_S = 300.0
SMALL_SIDE = 128

Kind: TypeAlias = str
ALONE, SMALL = "nothing", f"JPEGs of {SMALL_SIDE} x {SMALL_SIDE}"
COSTLY, REFUSED = "the costliest pictures that are accepted", "pictures that are refused"
KINDS = (ALONE, SMALL, COSTLY, REFUSED)


@dataclass(frozen=True, slots=True)
class Plan:
    """The kinds take turns, and in each turn the second client makes so many pictures."""

    rounds: int = 6
    pictures: int = 3


FULL, QUICK = Plan(), Plan(rounds=3, pictures=1)


@dataclass(frozen=True, slots=True)
class Results:
    """`accepted_cpu_s`, `refused_cpu_s`: CPU seconds that the body of a request takes to be read,
    or refused, by name of its picture. `seconds`: the median time of the second client's pictures,
    one for each round, by kind. `answers`: how many the first client got, by kind and status."""

    machine: Machine
    minutes: float
    accepted_cpu_s: dict[str, float]
    refused_cpu_s: dict[str, float]
    seconds: dict[Kind, list[float]]
    answers: dict[Kind, dict[int, int]]

    @property
    def costliest(self) -> str:
        return max(self.accepted_cpu_s, key=self.accepted_cpu_s.__getitem__)

    def ratio(self, kind: Kind, to: Kind) -> Interval:
        pairs = zip(self.seconds[kind], self.seconds[to], strict=True)
        return ratio_interval([ours / theirs for ours, theirs in pairs])


def measure(config: Path, plan: Plan) -> Results:
    began, machine = time.monotonic(), describe()
    settings = settings_of(config)
    accepted = {name: _body(data) for name, data in costly_pictures(settings).items()}
    refused = {name: _body(data) for name, data in refused_pictures().items()}
    accepted_cpu_s = {name: _cpu_s(body, settings) for name, body in accepted.items()}
    refused_cpu_s = {name: _cpu_s(body, settings) for name, body in refused.items()}
    costliest = max(accepted, key=accepted_cpu_s.__getitem__)
    bodies: dict[Kind, list[bytes]] = {
        ALONE: [],
        SMALL: [_body(encoded(noise(SMALL_SIDE, SMALL_SIDE), "JPEG"))],
        COSTLY: [accepted[costliest]],
        REFUSED: list(refused.values()),
    }
    seconds: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    answers: dict[Kind, Counter[int]] = {kind: Counter() for kind in KINDS}
    with _served(config) as (server, first, second):
        for turn in range(plan.rounds):
            for kind in (*KINDS[turn % len(KINDS) :], *KINDS[: turn % len(KINDS)]):
                print(f"round {turn + 1}: {kind}", file=sys.stderr, flush=True)
                with _sending(server, first, bodies[kind], settings) as told:
                    seconds[kind].append(_median_s(server, second, plan.pictures))
                answers[kind] += told
    return Results(
        machine,
        (time.monotonic() - began) / 60,
        accepted_cpu_s,
        refused_cpu_s,
        seconds,
        {kind: dict(each) for kind, each in answers.items()},
    )


def _body(picture: bytes) -> bytes:
    url = f"data:application/octet-stream;base64,{base64.b64encode(picture).decode()}"
    return json.dumps({"prompt": PROMPTS[0], "seed": SEED, "image_url": url}).encode()


def _cpu_s(body: bytes, settings: AppSettings) -> float:
    """What an ingress does with the picture in a body, as far as it gets."""
    ingress, model = settings.ingress, settings.model
    began = time.process_time()
    fields = json.loads(body)
    data = data_uri.decoded(fields["image_url"], "image_url", ingress.max_input_bytes)
    picture = _unless_refused(lambda: inspect(data, "image_url", ingress.max_input_pixels))
    if picture is not None:
        read_pixels(picture, model.width, model.height)
    return time.process_time() - began


def _unless_refused(look: Callable[[], InputPicture]) -> InputPicture | None:
    try:
        return look()
    except InvalidRequest:
        return None


@contextmanager
def _served(config: Path) -> Iterator[tuple[Server, str, str]]:
    """A server that asks for a key, and two keys of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys.json"
        first, second = (keys.create(file, name, {}) for name in ("first", "second"))
        fields = yaml.safe_load(config.read_text())
        arguments = fields["applications"][0].setdefault("args", {})
        arguments["access"] = {**arguments.get("access", {}), "keys_file": str(file)}
        with_keys = Path(folder) / config.name
        with_keys.write_text(yaml.safe_dump(fields, sort_keys=False))
        with serving(with_keys) as server:
            asyncio.run(_until_ready(server))
            _median_s(server, second, 2)
            yield server, first, second


async def _until_ready(server: Server) -> None:
    async with asyncio.timeout(TIMEOUT_S), httpx.AsyncClient(base_url=server.url) as client:
        while True:
            server.check_alive()
            try:
                if (await client.get("/health")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)


def _median_s(server: Server, key: str, count: int) -> float:
    seconds = []
    with httpx.Client(base_url=server.url, headers=_shown(key), timeout=TIMEOUT_S) as client:
        for seed in range(count):
            began = time.perf_counter()
            client.post("/", json={"prompt": PROMPTS[1], "seed": seed}).raise_for_status()
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


@contextmanager
def _sending(
    server: Server, key: str, bodies: Sequence[bytes], settings: AppSettings
) -> Iterator[Counter[int]]:
    """The first client sends until the block is left; then the counter has its answers."""
    told: Counter[int] = Counter()
    if not bodies:
        yield told
        return
    clients = settings.access.concurrent_requests
    with working(_send, server.url, _shown(key), bodies, clients, niceness=0) as (process, _):
        process.recv()  # the first answer has come
        yield told
        process.send(None)
        told += process.recv()


def _send(
    process: Connection, url: str, headers: Mapping[str, str], bodies: Sequence[bytes], clients: int
) -> None:
    asyncio.run(_send_until_told(process, url, headers, bodies, clients))


async def _send_until_told(
    process: Connection, url: str, headers: Mapping[str, str], bodies: Sequence[bytes], clients: int
) -> None:
    answers: Counter[int] = Counter()
    answered = asyncio.Event()
    headers = {**headers, "content-type": "application/json"}

    async def one(client: httpx.AsyncClient, number: int) -> None:
        while True:
            number += 1
            answer = await client.post("/", content=bodies[number % len(bodies)])
            answers[answer.status_code] += 1
            answered.set()
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["retry-after"]))

    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S) as client:
        sending = [asyncio.create_task(one(client, number)) for number in range(clients)]
        try:
            await asyncio.wait(
                [*sending, asyncio.create_task(answered.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
            process.send(None)
            told = asyncio.create_task(asyncio.to_thread(process.recv))
            await asyncio.wait([*sending, told], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in sending:
                each.cancel()
            await asyncio.wait(sending)
    for each in sending:
        if not each.cancelled():
            each.result()
    process.send(answers)


def _shown(key: str) -> dict[str, str]:
    return {"authorization": f"Key {key}"}
