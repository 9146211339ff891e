"""Clients that leave, and stages that die, in mid-picture."""

import asyncio
import contextlib
import json
import time
from typing import Any

import httpx
import pytest

from tests.integration.application import Application, eventually

LONG = {"prompt": "mountains at dawn", "num_inference_steps": 100, "preview_every": 1}
SHORT = {"prompt": "hills", "num_inference_steps": 2}


def wait_until_quiet(application: Application) -> int:
    """The denoiser's steps, once it has stopped counting."""
    counts = [-1, application.steps_run()]
    while counts[-1] != counts[-2]:
        time.sleep(0.5)
        counts.append(application.steps_run())
    return counts[-1]


@contextlib.contextmanager
def stream(application: Application, **fields: Any) -> Any:
    with httpx.stream("POST", f"{application.url}/stream", json=fields, timeout=60) as answer:
        yield (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))


def test_a_client_that_leaves_a_stream_stops_its_work(application: Application) -> None:
    before = wait_until_quiet(application)
    with stream(application, **LONG) as events:
        seen = next(events)["step"]
    after = wait_until_quiet(application)
    assert seen <= after - before < 100
    with stream(application, **SHORT) as events:
        assert list(events)[-1]["type"] == "final"  # nobody is in its way


async def test_a_client_that_leaves_a_plain_request_stops_its_work(
    application: Application,
) -> None:
    before = wait_until_quiet(application)
    async with httpx.AsyncClient(timeout=60) as client:
        asking = asyncio.create_task(client.post(application.url, json=LONG))
        await asyncio.to_thread(eventually, lambda: application.steps_run() > before)
        asking.cancel()  # and httpx closes its connection
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert wait_until_quiet(application) - before < 100


def test_a_denoiser_that_dies_costs_no_picture(application: Application) -> None:
    """The only one: the picture waits for the next, and a new request does too."""
    with stream(application, **LONG) as events:
        first = next(events)
        assert first["type"] == "preview"
        application.kill("Denoiser")
        assert httpx.post(application.url, json=SHORT, timeout=240).status_code == 200
        *previews, final = events
    assert final["type"] == "final"
    steps = [event["step"] for event in (first, *previews)]
    assert steps == sorted(set(steps))
    wait_until_quiet(application)


def test_a_preview_decoder_that_dies_costs_no_picture(application: Application) -> None:
    with stream(application, **LONG) as events:
        assert next(events)["type"] == "preview"
        application.kill("PreviewDecoder")
        *previews, final = events
    assert final["type"] == "final"
    # Its call fails, or goes on to wait for another replica: either way something is shown.
    assert [event for event in previews if event.get("quality") == "rough"]
    steps = [event["step"] for event in previews]
    assert steps == sorted(set(steps))

    def previews_again() -> bool:
        with stream(application, **SHORT, preview_every=1) as events:
            *previews, _ = events
            return ["quality" in event for event in previews] == [False]

    eventually(previews_again)


@pytest.mark.parametrize("stage", ["TextEncoder", "ImageCodec"])
def test_a_stage_that_dies_while_nobody_needs_it_costs_no_picture(
    application: Application, stage: str
) -> None:
    with stream(application, **LONG) as events:
        assert next(events)["type"] == "preview"
        application.kill(stage)
        *_, final = events
    assert final["type"] == "final"
    fields = {**SHORT, "prompt": f"hills, never encoded before the {stage} died"}
    eventually(lambda: httpx.post(application.url, json=fields, timeout=60).status_code == 200)


def test_prompts_are_not_logged_and_lines_carry_the_request_id(application: Application) -> None:
    secret = "a windmill that nobody may know of"
    httpx.post(application.url, json={**SHORT, "prompt": secret, "request_id": "log-1"}, timeout=60)
    eventually(lambda: "[log-1] glimpse.generation: done" in application.logs())
    assert secret not in application.logs()
