"""The SDXL profiles, really deployed: logical GPUs, tiny random weights of the real classes."""

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from config.settings import ROOT
from tests.integration.application import Application, eventually
from tests.tiny_model import build_tiny_sdxl

FOLDER = ROOT / "config" / "profiles"
PROFILES = sorted(path.stem for path in FOLDER.glob("sdxl_*.yaml"))
GPUS = {"sdxl_one_gpu": 1, "sdxl_split": 3}  # the one says what it needs; the other is to grow


@pytest.fixture(scope="module")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-sdxl")
    build_tiny_sdxl(folder)
    return folder


@pytest.fixture(scope="module")
def application(request: pytest.FixtureRequest, tiny_sdxl: Path) -> Iterator[Application]:
    """A profile as it is, but for the weights, their precision and place, the size, and how soon
    it scales."""
    config = yaml.safe_load((FOLDER / f"{request.param}.yaml").read_text())
    wanted = config["applications"][0]
    wanted["args"]["model"].update(
        path=str(tiny_sdxl),
        tiny_vae=str(tiny_sdxl / "vae_tiny"),
        variant=None,
        device="cpu",
        dtype="float32",  # a CPU takes its time in half precision
        width=64,
        height=64,
    )
    for deployment in wanted["deployments"]:
        scaling = deployment.get("autoscaling_config", {})
        if scaling.get("max_replicas", 1) > 1:
            scaling.update(max_replicas=2, upscale_delay_s=0.5, downscale_delay_s=1)
            scaling.update(look_back_period_s=11)  # the shortest without a warning
    pushed = {
        "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    }
    with Application(config, num_gpus=GPUS[request.param], env=pushed) as running:
        yield running


def last_event(application: Application, steps: int) -> dict[str, Any]:
    """Of a stream: a final, unless something went wrong."""
    fields = {"prompt": "a house", "num_inference_steps": steps, "preview_every": 10}
    data = "{}"
    with (
        contextlib.suppress(httpx.RemoteProtocolError),  # what follows an error event
        httpx.stream("POST", f"{application.url}/stream", json=fields, timeout=120) as answer,
    ):
        for line in answer.iter_lines():
            if line.startswith("data: "):
                data = line[6:]
    event: dict[str, Any] = json.loads(data)
    return event


@pytest.mark.parametrize("application", PROFILES, indirect=True)
def test_it_makes_pictures(application: Application) -> None:
    final = last_event(application, steps=2)
    assert (final["type"], final["image"]["width"]) == ("final", 64)
    alias = httpx.post(
        f"{application.url}/glimpse/sdxl", json={"prompt": "x", "seed": 1}, timeout=60
    )
    assert alias.status_code == 200


@pytest.mark.parametrize("application", ["sdxl_split"], indirect=True)
def test_denoisers_follow_the_load_and_no_stream_is_cut(application: Application) -> None:
    assert application.replicas("Denoiser") == 1
    grown, over = threading.Event(), threading.Event()

    def keep_asking(until: threading.Event) -> list[dict[str, Any]]:
        ends = []
        while not until.is_set():
            ends.append(last_event(application, steps=60))
        return ends

    with ThreadPoolExecutor(9) as clients:
        try:
            one = clients.submit(keep_asking, over)  # goes on when the others have gone
            others = [clients.submit(keep_asking, grown) for _ in range(8)]
            eventually(lambda: application.replicas("Denoiser") == 2)
            grown.set()
            ends = [end for client in others for end in client.result()]
            eventually(lambda: application.replicas("Denoiser") == 1)
        finally:
            grown.set()
            over.set()
        ends += one.result()
    assert [end for end in ends if end.get("type") != "final"] == []
