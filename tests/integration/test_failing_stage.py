"""A stage that raises, over the real Serve: a model whose VAE takes grey pictures and makes latents
of more channels than its UNet's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.integration.application import Application, eventually
from tests.integration.test_bad_input import PNG_URL
from tests.tiny_model import build_tiny_sdxl, build_vae

FIELDS = {"prompt": "a house", "num_inference_steps": 4, "preview_every": 1}


@pytest.fixture(scope="module")
def application(
    default_config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    folder: Path = build_tiny_sdxl(tmp_path_factory.mktemp("mismatched"))
    build_vae(latent_channels=8, in_channels=1).save_pretrained(folder / "vae")
    settings = {
        "path": str(folder),
        "tiny_vae": str(folder / "vae_tiny"),
        "width": 64,
        "height": 64,
    }
    (served,) = default_config["applications"]
    config = {**default_config, "applications": [{**served, "args": {"model": settings}}]}
    with Application(config) as running:
        yield running


def test_a_stage_that_raises_ends_a_stream_with_its_error(application: Application) -> None:
    events = []
    with httpx.stream("POST", f"{application.url}/stream", json=FIELDS, timeout=60) as answer:
        with pytest.raises(httpx.RemoteProtocolError):  # cut off: an end would read as success
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
    assert "preview" in {event.get("type") for event in events}  # so far all went well
    error = events[-1]["error"]
    assert error["code"] == "stage_failed" and error["request_id"]
    assert "image_decode" in error["message"]
    assert "channels" not in json.dumps(events)  # what the stage raised is for the log
    eventually(lambda: "RuntimeError" in application.logs())


def test_openais_client_raises_what_ends_a_stream(application: Application) -> None:
    client = openai.OpenAI(base_url=f"{application.url}/v1", api_key="any", max_retries=0)
    with client.images.generate(prompt="a house", stream=True, partial_images=2) as events:
        with pytest.raises(openai.APIError) as told:
            list(events)
    assert told.value.code == "stage_failed"


def test_a_stage_that_raises_fails_a_plain_request_and_nothing_is_left_running(
    application: Application,
) -> None:
    answer = httpx.post(application.url, json=FIELDS, timeout=60)
    assert answer.status_code == 500
    assert "image_decode" in answer.json()["detail"]
    eventually(lambda: application.counters("Denoiser")["running"] == 0)


def test_what_an_encoder_raises_reaches_the_client_and_frees_the_denoiser(
    application: Application,
) -> None:
    answer = httpx.post(application.url, json={**FIELDS, "image_url": PNG_URL}, timeout=60)
    assert answer.status_code == 500
    assert "image_encode" in answer.json()["detail"]
    eventually(lambda: application.counters("Denoiser")["running"] == 0)
