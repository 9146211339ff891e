"""Processes that die or hang in mid-picture, over the real Serve: nobody loses a picture."""

import asyncio
import base64
import copy
import io
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgpack
import numpy as np
import psutil
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from config.settings import ROOT
from tests.integration.application import Application, eventually
from tests.integration.sessions import PROMPT, ask, decoded, pixels, realtime

STEPS = 40
PROFILE = yaml.safe_load((ROOT / "config/profiles/two_denoisers.yaml").read_text())
CHECKPOINT_EVERY = PROFILE["applications"][0]["args"]["recovery"]["checkpoint_every_steps"]
STAGES = ("TextEncoder", "Denoiser", "PreviewDecoder", "ImageCodec")
DENOISERS = 2


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    with Application(PROFILE) as application:
        whole(application)
        yield application


def whole(application: Application) -> None:
    """Returns once every stage has all its replicas, and no other ones."""
    eventually(application.settled)


@dataclass
class Stream:
    """One `/stream`, as it comes."""

    seed: int
    steps: list[int] = field(default_factory=list)
    previews: list[int] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    async def run(self, client: httpx.AsyncClient) -> "Stream":
        fields = {"prompt": PROMPT, "seed": self.seed, "num_inference_steps": STEPS}
        fields |= {"progress": True, "output_format": "png"}
        async with client.stream("POST", "/stream", json=fields) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    self._take(json.loads(line[6:]))
        return self

    def _take(self, event: dict[str, Any]) -> None:
        self.last = event
        match event.get("type"):
            case "progress":
                self.steps.append(event["step"])
            case "preview":
                self.previews.append(event["step"])

    @property
    def picture(self) -> NDArray[Any]:
        assert self.last.get("type") == "final", self.last
        data = base64.b64decode(self.last["image"]["url"].partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(data)), dtype=int)


@asynccontextmanager
async def clients(application: Application) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=application.url, timeout=280) as client:
        yield client


@pytest.fixture(scope="module")
def references(application: Application) -> dict[int, NDArray[Any]]:
    """What the pictures are when nothing happens to them."""

    async def draw() -> dict[int, NDArray[Any]]:
        async with clients(application) as client:
            streams = await asyncio.gather(*(Stream(seed).run(client) for seed in range(6)))
        return {stream.seed: stream.picture for stream in streams}

    return asyncio.run(draw())


def replicas(application: Application, stage: str) -> list[psutil.Process]:
    return application.actors(f"ServeReplica:glimpse:{stage}")


async def disturbed(
    application: Application,
    *processes: psutil.Process,
    by: int,
    struck: int | None = None,
    newcomer: str | None = None,
) -> list[Stream]:
    """Six pictures at once, that have a checkpoint when the signal is sent: to all the processes,
    or to so many that have had most to do. Then somebody asks for a picture of another text."""
    streams = [Stream(seed) for seed in range(6)]
    async with clients(application) as client, asyncio.timeout(280):
        before = [process.cpu_times().user for process in processes]
        running = [asyncio.create_task(stream.run(client)) for stream in streams]
        while not all(len(stream.steps) > CHECKPOINT_EVERY for stream in streams):
            await asyncio.sleep(0.01)
        worked = [
            process.cpu_times().user - so_far
            for process, so_far in zip(processes, before, strict=True)
        ]
        ranked = sorted(range(len(processes)), key=lambda number: -worked[number])
        for number in ranked[:struck]:
            processes[number].send_signal(by)
        if newcomer is not None:
            answer = await client.post("/", json={"prompt": newcomer, "num_inference_steps": 2})
            assert answer.status_code == 200, answer.text
        return list(await asyncio.gather(*running))


def check(streams: list[Stream], references: dict[int, NDArray[Any]]) -> None:
    for stream in streams:
        assert stream.steps == list(range(1, STEPS + 1))
        assert stream.previews == sorted(set(stream.previews))
        assert np.abs(stream.picture - references[stream.seed]).max() <= 1


def check_moves(application: Application, since: int) -> None:
    """By what the log says since: jobs resumed, none from a checkpoint that was too old."""
    moves = re.findall(
        r"moved: denoise \w+ at step (\d+), resumes from step (\d+)", application.logs()[since:]
    )
    assert max(int(kept) for _, kept in moves) >= CHECKPOINT_EVERY
    for told, kept in moves:
        assert int(kept) <= int(told) <= int(kept) + CHECKPOINT_EVERY + 1


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
async def test_pictures_go_on_in_another_denoiser(
    application: Application, references: dict[int, NDArray[Any]], by: int
) -> None:
    logged = len(application.logs())
    before = replicas(application, "Denoiser")
    check(await disturbed(application, *before, by=by, struck=1), references)
    check_moves(application, logged)
    await asyncio.to_thread(eventually, lambda: sum(each.is_running() for each in before) == 1)
    await asyncio.to_thread(whole, application)


async def test_where_no_denoiser_is_left_pictures_wait_for_the_next_one(
    application: Application, references: dict[int, NDArray[Any]]
) -> None:
    """The encoder of their text is gone as well."""
    logged = len(application.logs())
    struck = replicas(application, "Denoiser") + replicas(application, "TextEncoder")
    check(await disturbed(application, *struck, by=signal.SIGKILL), references)
    check_moves(application, logged)
    await asyncio.to_thread(whole, application)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSTOP], ids=["die", "hang"])
async def test_pictures_outlive_all_other_stages(
    application: Application, references: dict[int, NDArray[Any]], by: int
) -> None:
    """Those under way, and one whose text has yet to be encoded."""
    before = [
        process
        for stage in STAGES
        if stage != "Denoiser"
        for process in replicas(application, stage)
    ]
    newcomer = f"a text that nobody has encoded before signal {by}"
    check(await disturbed(application, *before, by=by, newcomer=newcomer), references)
    await asyncio.to_thread(eventually, lambda: not any(each.is_running() for each in before))
    await asyncio.to_thread(whole, application)


async def test_a_session_gets_its_next_result(application: Application) -> None:
    fields = {"prompt": PROMPT, "num_inference_steps": STEPS, "output_format": "png", "seed": 1}
    async with realtime(application) as first, realtime(application) as second:
        reference = pixels(await ask(first, **fields))
        ran = application.counters_of_each("Denoiser")
        for session in (first, second):
            await session.send(msgpack.packb(fields))
        await asyncio.to_thread(eventually, lambda: application.counters_of_each("Denoiser") != ran)
        replicas(application, "Denoiser")[0].kill()
        for session in (first, second):
            async with asyncio.timeout(240):
                result = decoded(await session.recv())
            assert np.abs(pixels(result) - reference).max() <= 1
    await asyncio.to_thread(whole, application)


async def test_a_redeploy_with_other_settings_refuses_nobody(
    application: Application, references: dict[int, NDArray[Any]]
) -> None:
    """Every replica is replaced, while pictures are made and new ones asked for."""
    config = copy.deepcopy(application.config)
    config["applications"][0]["args"] = {"ingress": {"ping_interval_s": 9}}
    before = {
        process.pid for stage in (*STAGES, "Ingress") for process in replicas(application, stage)
    }
    done = asyncio.Event()

    def old_ones_left() -> bool:
        """Those that drain have pictures to end."""
        left = {each.pid for stage in (*STAGES, "Ingress") for each in replicas(application, stage)}
        return bool(left & before) or not application.settled()

    async def ask_on(client: httpx.AsyncClient, seed: int) -> int:
        count = 0
        while not done.is_set():
            check([await Stream(seed).run(client)], references)
            count += 1
        return count

    async with clients(application) as client, asyncio.TaskGroup() as group:
        asking = [group.create_task(ask_on(client, seed)) for seed in range(3)]
        await asyncio.to_thread(application.deploy, config)

        await asyncio.to_thread(eventually, lambda: not old_ones_left(), 240)
        async with realtime(application) as session:
            assert (await ask(session, prompt=PROMPT))["type"] == "final"
        done.set()
    assert all(task.result() > 0 for task in asking)
