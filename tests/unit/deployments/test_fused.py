"""`deployments.fused`: the whole server in one process, over tiny random weights. Without Ray."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from config.settings import AccessSettings, AppSettings, DenoiserSettings, ModelSettings
from deployments.fused import Fused
from glimpse.watch import Stalled
from tests.tiny_model import build_tiny_sdxl
from tests.unit.glimpse.http.asgi import Exchange

STEPS = 6


@pytest.fixture(scope="module")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_sdxl(tmp_path_factory.mktemp("tiny_sdxl"))


def torch_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("torch")}


@pytest.fixture(scope="module")
def fused(tiny_sdxl: Path) -> Iterator[Fused]:
    before = torch_threads()
    model = ModelSettings(
        path=str(tiny_sdxl), tiny_vae=str(tiny_sdxl / "vae_tiny"), width=64, height=64
    )
    # Of two threads, one would wait for the other where the machine is busy.
    settings = AppSettings(
        model=model,
        denoiser=DenoiserSettings(threads=1),
        access=AccessSettings(allowed_hosts=("*",)),
    )
    fused = Fused(settings, key_limits=None)
    yield fused
    assert len(torch_threads() - before) == 1


@asynccontextmanager
async def serving(fused: Fused) -> AsyncIterator[Any]:
    """Its app, ready."""
    app: Any = fused.__serve_build_asgi_app__()
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test"
        ) as client:
            while (await client.get("/health")).status_code != 200:
                await asyncio.sleep(0.001)
        yield app


def ask(app: Any, **fields: Any) -> Exchange:
    wanted = {"prompt": "a house", "num_inference_steps": STEPS, "output_format": "png"}
    return Exchange(app, "/stream", json.dumps(wanted | fields).encode())


def pixels(event: dict[str, Any]) -> Any:
    data = base64.b64decode(event["image"]["url"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data))).astype(np.int16)


async def quiet(fused: Fused) -> dict[str, Any]:
    """Its counters, once no job is left."""
    while (counters := await fused.ping())["running"] + counters["waiting"]:
        await asyncio.sleep(0.001)
    return counters


async def test_pictures_made_together_are_the_pipelines(fused: Fused, tiny_sdxl: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)
    pipeline.set_progress_bar_config(disable=True)
    before = await fused.ping()
    async with serving(fused) as app:
        asked = [ask(app, seed=seed, prompt=f"{seed} houses") for seed in range(4)]
        answers = [await each.ended() for each in asked]
    after = await fused.ping()
    for seed, answer in enumerate(answers):
        assert answer.complete
        *previews, final = answer.events
        assert {each["type"] for each in previews} <= {"preview"}
        shown = [each["step"] for each in previews]
        assert shown == sorted({1, 5} & set(shown))  # the picture does not wait for the last one
        theirs = pipeline(
            f"{seed} houses",
            width=64,
            height=64,
            num_inference_steps=STEPS,
            guidance_scale=4.5,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        assert abs(pixels(final) - np.asarray(theirs).astype(np.int16)).max() <= 1
    assert after["steps_run"] - before["steps_run"] == 4 * STEPS
    assert after["ticks"] - before["ticks"] < 4 * STEPS  # or nobody shared a call
    assert after["texts"] - before["texts"] == 4


async def test_a_picture_to_start_from(fused: Fused) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (80, 60), (250, 120, 30)).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    async with serving(fused) as app:
        answer = await ask(app, image_url=url, strength=0.5).ended()
    assert answer.complete and answer.events[-1]["steps"] == STEPS // 2


async def test_a_client_that_leaves_stops_its_work(fused: Fused) -> None:
    before = await quiet(fused)
    async with serving(fused) as app:
        exchange = ask(app, num_inference_steps=100, preview_every=1)
        await exchange.has(1)
        exchange.leave()
        await exchange.ended()
        after = await quiet(fused)
        assert 1 <= after["steps_run"] - before["steps_run"] < 100
        again = await ask(app).ended()
        assert again.complete
    steps_run = (await quiet(fused))["steps_run"]
    assert steps_run == after["steps_run"] + STEPS


async def test_what_is_refused_starts_nothing(fused: Fused) -> None:
    before = await quiet(fused)
    async with serving(fused) as app:
        for fields, hint in (({"prompt": ""}, "prompt"), ({"sead": 1}, "did you mean seed")):
            answer = await ask(app, **fields).ended()
            assert answer.status == 422
            assert hint in json.loads(answer.body)["message"]
    assert await quiet(fused) == before


async def test_a_torch_thread_that_stands_still_is_told_and_fails_the_health_check(
    fused: Fused, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fused.check_health()
    assert (await fused.ping())["stalled"] == 0
    assert fused._thread.watch.bounds.stall_s == AppSettings().recovery.stall_s
    monkeypatch.setattr(fused._thread.watch, "stalled", True)
    assert (await fused.ping())["stalled"] == 1
    with pytest.raises(Stalled):
        await fused.check_health()
