"""What an operator sees: the series of docs/operating.md, where Prometheus reads them."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from deployments.meter import MOVES, PREVIEWS, STALLS
from tests.integration.application import Application, eventually
from tests.integration.sessions import PROMPT, ask, realtime
from tests.integration.sessions import STEPS as SESSIONS_STEPS
from tests.integration.test_stream import events

STEPS = 8
PICTURE = {"prompt": PROMPT, "num_inference_steps": STEPS, "preview_every": 2}
PREVIEWS_EACH = 4  # after 1, 2, 4 and 6 steps
PICTURES = 2


@pytest.fixture(scope="module")
def application(default_config: dict[str, Any]) -> Iterator[Application]:
    """Of its own, so that nobody else is counted, after all that the tests below look for."""
    with Application(default_config) as running:
        asyncio.run(_use(running))
        yield running


async def _use(application: Application) -> None:
    """One thing after the other."""
    for seed in range(PICTURES):
        fields = {**PICTURE, "seed": seed}
        made = httpx.post(f"{application.url}/stream", json=fields, timeout=60)
        assert events(made.text)[-1]["type"] == "final"
    refused = httpx.post(f"{application.url}/stream", json={"prompt": ""})
    assert refused.status_code == 422
    async with realtime(application, "?max_buffering=0") as session:
        assert "INVALID_REQUEST" in str(await session.recv())
    async with realtime(application) as session:
        assert (await ask(session, prompt=PROMPT, seed=1))["type"] == "final"
        await session.send("not msgpack")
        assert "INVALID_MESSAGE" in str(await session.recv())


def expect(application: Application, value: float, name: str, /, **labels: str) -> None:
    """That Prometheus comes to read this value. Ray reports every ten seconds."""
    with suppress(TimeoutError):
        eventually(lambda: application.metric(f"ray_glimpse_{name}", **labels) == value)
    assert application.metric(f"ray_glimpse_{name}", **labels) == value, (name, labels)


def test_refusals_are_counted_once_by_their_reason(application: Application) -> None:
    where = {"application": "glimpse", "deployment": "Ingress"}
    expect(application, 1, "refusals_total", reason="invalid_message", **where)
    expect(application, 2, "refusals_total", reason="invalid_request", **where)
    expect(application, 3, "refusals_total")


def test_what_has_not_happened_is_zero_and_not_missing(application: Application) -> None:
    for stage, reason in itertools.product(*MOVES.labels.values()):
        expect(application, 0, "moves_total", stage=stage, reason=reason)
    for stage in STALLS.labels["stage"]:
        expect(application, 0, "stalls_total", stage=stage)
    for outcome in ("failed", "cancelled"):
        expect(application, 0, "generations_total", outcome=outcome)
    expect(application, 0, "resumed_steps_total")


def test_generations_and_their_previews(application: Application) -> None:
    expect(application, PICTURES + 1, "generations_total", outcome="done")
    expect(application, PICTURES + 1, "generation_seconds_count", deployment="Ingress")
    # Whether the decoder keeps up depends on the machine.
    expect(application, PICTURES * PREVIEWS_EACH, "previews_total")
    assert {kind for kind in PREVIEWS.labels["kind"] if _value(application, kind)} & {
        "decoded",
        "rough",
    }
    expect(application, PICTURES, "first_preview_seconds_count")
    expect(application, PICTURES + 1, "queue_seconds_count")


def test_steps_and_ticks(application: Application) -> None:
    # One after the other: every step was a tick of its own.
    ticks = PICTURES * STEPS + SESSIONS_STEPS
    expect(application, ticks, "tick_seconds_count", deployment="Denoiser")
    expect(application, ticks, "tick_rows_count", deployment="Denoiser")
    expect(application, PICTURES + 1, "step_seconds_count", deployment="Denoiser")
    # A picture with guidance has two rows, for which Ray takes the middle of the bucket.
    expect(application, ticks, "tick_rows_bucket", le="2.0")
    expect(application, 0, "tick_rows_bucket", le="1.0")


def test_times_are_plausible(application: Application) -> None:
    picture_s = _mean(application, "generation_seconds")
    assert 0 < _mean(application, "step_seconds") < picture_s
    assert 0 < _mean(application, "tick_seconds") < picture_s
    # Both within the width of a bucket, which is at most two and a half times as far.
    assert 0 < _mean(application, "first_preview_seconds") < 2.5 * picture_s


def _value(application: Application, kind: str) -> float:
    return application.metric("ray_glimpse_previews_total", kind=kind) or 0


def _mean(application: Application, name: str) -> float:
    name = f"ray_glimpse_{name}"
    eventually(lambda: application.metric(f"{name}_count") is not None)
    total, count = application.metric(f"{name}_sum"), application.metric(f"{name}_count")
    assert total is not None and count
    return total / count
