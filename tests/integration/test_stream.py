"""The service as its clients see it: bytes on the wire, and fal's own clients."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import fal_client
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.integration.application import Application
from tests.integration.test_oracle import decoded, difference

PROMPT = "a red lighthouse by the sea at sunset"
INPUT: dict[str, Any] = {
    "prompt": PROMPT,
    "num_inference_steps": 12,
    "seed": 7,
    "request_id": "wire-1",
}


def events(body: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]


def picture(event: dict[str, Any]) -> Image.Image:
    head, data = event["image"]["url"].split(",")
    assert head == f"data:{event['image']['content_type']};base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (event["image"]["width"], event["image"]["height"])
    return image


def check_events(found: list[dict[str, Any]]) -> None:
    *previews, final = found
    assert [(e["type"], e["step"]) for e in previews] == [("preview", s) for s in (1, 5, 10)]
    assert (final["type"], final["step"]) == ("final", 12)
    assert {e["steps"] for e in found} == {12}
    assert {e["seed"] for e in found} == {7}
    assert [picture(e).format for e in found] == ["JPEG"] * 4
    assert final["images"] == [final["image"]]
    assert set(final["timings"]) == {"queue", "text_encode", "denoise", "decode", "total"}


@pytest.mark.parametrize("prefix", ["", "/glimpse/miniature"])
def test_a_stream_on_the_wire(application: Application, prefix: str) -> None:
    answer = httpx.post(f"{application.url}{prefix}/stream", json=INPUT, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-fal-request-id"] == "wire-1"
    assert answer.content.isascii()
    assert all(
        not line or line.startswith(("data: {", ": ping")) for line in answer.text.split("\n")
    )
    check_events(events(answer.text))


def test_texts_are_encoded_in_one_call_and_once(application: Application) -> None:
    wanted = {"prompt": "twelve windmills", "negative_prompt": "fog", "num_inference_steps": 1}
    before = application.counters("TextEncoder")
    assert httpx.post(application.url, json=wanted, timeout=60).status_code == 200
    after = application.counters("TextEncoder")
    assert after == {**before, "texts": before["texts"] + 2, "calls": before["calls"] + 1}
    assert httpx.post(application.url, json=wanted, timeout=60).status_code == 200
    assert application.counters("TextEncoder") == after


def test_progress_is_told_on_request(application: Application) -> None:
    wanted = {**INPUT, "progress": True, "preview_every": 0, "num_inference_steps": 3}
    answer = httpx.post(f"{application.url}/stream", json=wanted, timeout=60)
    *progress, final = events(answer.text)
    assert progress == [{"type": "progress", "step": s, "steps": 3} for s in (1, 2, 3)]
    assert final["type"] == "final"


def test_several_pictures_have_a_seed_each(application: Application) -> None:
    wanted = {**INPUT, "num_images": 2, "num_inference_steps": 2, "output_format": "png"}
    both = httpx.post(application.url, json=wanted, timeout=60).json()
    second = httpx.post(
        application.url, json={**wanted, "num_images": 1, "seed": INPUT["seed"] + 1}, timeout=60
    ).json()
    assert len(both["images"]) == 2
    both_second = {"image": both["images"][1]}
    assert difference(decoded(both_second), decoded(second)).max() <= 1
    assert difference(decoded(both), decoded(second)).max() > 50


def test_a_picture_is_drawn_from_an_input_picture(application: Application) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (256, 200), (250, 120, 30)).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    wanted = {**INPUT, "image_url": url, "strength": 0.5, "num_inference_steps": 10}
    final = httpx.post(application.url, json=wanted, timeout=60).json()
    assert final["steps"] == 5
    red, _, blue = np.asarray(picture(final), float).mean((0, 1))
    assert red > blue + 60  # still as orange as what it was drawn from


@pytest.fixture
def pointed_here(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points the unmodified fal client at the application, by its own module attribute."""
    monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", application.url + "/")


@pytest.fixture
def client(pointed_here: None) -> Iterator[fal_client.SyncClient]:
    client = fal_client.SyncClient(key="any")
    yield client
    client._client.close()  # it has no close of its own


def test_fal_stream(client: fal_client.SyncClient) -> None:
    check_events(list(client.stream("glimpse/miniature", INPUT)))


def test_fal_run(client: fal_client.SyncClient) -> None:
    final = client.run("glimpse/miniature", INPUT)
    assert final["seed"] == 7 and picture(final).size == (128, 128)


async def test_fal_async(pointed_here: None) -> None:
    client = fal_client.AsyncClient(key="any")
    try:
        check_events([event async for event in client.stream("glimpse/miniature", INPUT)])
        final = await client.run("glimpse/miniature", INPUT)
        assert final["seed"] == 7 and picture(final).size == (128, 128)
    finally:
        await (await client._client).aclose()


def test_fal_shows_why_an_input_is_refused(client: fal_client.SyncClient) -> None:
    with pytest.raises(fal_client.FalClientHTTPError, match="did you mean seed") as refused:
        client.run("glimpse/miniature", {"prompt": "x", "sead": 1})
    assert refused.value.status_code == 422


def test_pages(application: Application) -> None:
    with httpx.Client(base_url=application.url) as client:
        assert client.get("/health").json()["status"] == "ready"
        assert "<form" in client.get("/").text
        assert "/docs/static/" in client.get("/docs").text
        assert client.get("/docs/static/swagger-ui-bundle.js").status_code == 200
        paths = client.get("/openapi.json").json()["paths"]
    assert {"/", "/stream", "/{owner}/{alias}", "/{owner}/{alias}/stream", "/health"} <= set(paths)
