"""The fused graph, really deployed: to its clients it is the same server."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import yaml

from config.settings import ROOT
from tests.integration.application import Application, eventually
from tests.integration.test_bad_input import REFUSED
from tests.integration.test_leaving import LONG, SHORT, stream, wait_until_quiet
from tests.integration.test_oracle import check_picture_and_previews, decoded, difference

PROFILE = ROOT / "config" / "profiles" / "fused.yaml"
CLIENTS = 4


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    with Application(yaml.safe_load(PROFILE.read_text())) as application:
        yield application


@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
def test_the_picture_and_its_previews_are_the_pipelines(
    application: Application, pipeline: Any, tiny_vae: Any, guidance_scale: float
) -> None:
    check_picture_and_previews(application, pipeline, tiny_vae, 7, guidance_scale)


def test_pictures_made_together_are_those_made_alone(application: Application) -> None:
    def ask(seed: int) -> dict[str, Any]:
        wanted = {"prompt": f"{seed} windmills", "seed": seed, "num_inference_steps": 8}
        answer = httpx.post(
            application.url, json={**wanted, "output_format": "png"}, timeout=60
        ).json()
        assert answer["type"] == "final"
        final: dict[str, Any] = answer
        return final

    before = application.counters("Fused")
    with ThreadPoolExecutor(CLIENTS) as clients:
        together = list(clients.map(ask, range(CLIENTS)))
    after = application.counters("Fused")
    assert after["texts"] - before["texts"] == CLIENTS
    assert after["steps_run"] - before["steps_run"] == 8 * CLIENTS
    assert after["ticks"] - before["ticks"] < 8 * CLIENTS  # or nobody shared a call
    for seed, picture in enumerate(together):
        assert difference(decoded(picture), decoded(ask(seed))).max() <= 1
    assert application.counters("Fused")["texts"] == after["texts"]  # each was encoded once


def test_a_client_that_leaves_stops_its_work(application: Application) -> None:
    before = wait_until_quiet(application)
    with stream(application, **LONG) as events:
        seen = next(events)["step"]
    after = wait_until_quiet(application)
    assert seen <= after - before < 100
    with stream(application, **SHORT) as events:
        assert list(events)[-1]["type"] == "final"  # nobody is in its way


def test_what_is_refused_says_what_to_do_and_starts_nothing(application: Application) -> None:
    before = application.counters("Fused")
    with httpx.Client(base_url=application.url) as client:
        for fields, hint in REFUSED:
            answer = client.post("/stream", json=fields)
            assert answer.status_code == 422, fields
            body = answer.json()
            assert hint in body["message"], (fields, body)
            assert body["error_type"] == "invalid_request" and body["detail"]
            assert answer.headers["x-fal-request-id"]
        assert client.get("/stream").status_code == 405
        unknown = client.post("/nobody/nothing", json={"prompt": "x"})
        assert unknown.status_code == 404 and "glimpse/miniature" in json.dumps(unknown.json())
    assert application.counters("Fused") == before


def test_health_names_every_stage(application: Application) -> None:
    answer = httpx.get(f"{application.url}/health", timeout=30)
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    assert answer.json()["stages"] == dict.fromkeys(
        ("text_encoder", "denoiser", "preview_decoder", "image_codec"), True
    )


def test_what_is_refused_is_counted(application: Application) -> None:
    assert httpx.post(application.url, json={"prompt": ""}).status_code == 422
    where = {"reason": "invalid_request", "deployment": "Fused"}
    eventually(lambda: application.metric("ray_glimpse_refusals_total", **where) is not None)


def test_each_tick_is_metered_once(application: Application) -> None:
    wanted = {"prompt": "a windmill", "num_inference_steps": 2}
    assert httpx.post(application.url, json=wanted, timeout=60).status_code == 200
    wait_until_quiet(application)
    ticks = application.counters("Fused")["ticks"]
    eventually(lambda: application.metric("ray_glimpse_tick_seconds_count") == ticks)
