"""Two denoisers: a session stays with one of them, and moves when that goes."""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.application import Application, eventually
from tests.integration.sessions import PROMPT, STEPS, ask, realtime


@pytest.fixture(scope="module")
def application(default_config: dict[str, Any]) -> Iterator[Application]:
    config = copy.deepcopy(default_config)
    (denoiser,) = (
        deployment
        for deployment in config["applications"][0]["deployments"]
        if deployment["name"] == "Denoiser"
    )
    denoiser["autoscaling_config"].update(min_replicas=2, max_replicas=2)
    with Application(config, tuned=False) as application:
        eventually(lambda: application.replicas("Denoiser") == 2)
        eventually(lambda: _both_have_worked(application))  # the ingress has heard of both
        yield application


def _both_have_worked(application: Application) -> bool:
    fields = {"prompt": PROMPT, "num_inference_steps": 1}
    assert httpx.post(application.url, json=fields, timeout=60).status_code == 200
    return min(steps(application)) > 0


async def test_a_session_stays_with_one(application: Application) -> None:
    before = steps(application)
    async with realtime(application) as connection:
        for seed in range(8):
            await ask(connection, prompt=PROMPT, seed=seed)
    assert (0, 8 * STEPS) in shares(before, steps(application))


async def test_sessions_and_what_is_none_are_shared_out(application: Application) -> None:
    async def plain(seed: int) -> None:
        fields = {"prompt": PROMPT, "seed": seed, "num_inference_steps": STEPS}
        assert (await client.post(application.url, json=fields)).status_code == 200

    async def session(seed: int) -> None:
        async with realtime(application) as connection:
            assert (await ask(connection, prompt=PROMPT, seed=seed))["type"] == "final"

    async with httpx.AsyncClient(timeout=60) as client:
        for make in (plain, session):
            before = steps(application)
            for seed in range(12):
                await make(seed)
            possible = shares(before, steps(application))
            assert any(least >= STEPS for least, _ in possible), (make.__name__, possible)


async def test_when_its_own_goes_a_session_moves(application: Application) -> None:
    async def session() -> None:
        async with realtime(application) as connection:
            assert (await ask(connection, prompt=PROMPT))["type"] == "final"
            await all_served.wait()
            await killed.wait()
            told = await ask(connection, seed=1)
            if told["type"] == "x-fal-error":  # its death had not been noticed yet
                assert told["error"] == "STAGE_LOST"
                told = await ask(connection, seed=2)
            assert told["type"] == "final"

    count = 8
    all_served, killed = asyncio.Barrier(count + 1), asyncio.Event()
    async with asyncio.TaskGroup() as sessions:
        for _ in range(count):
            sessions.create_task(session())
        await all_served.wait()
        await asyncio.to_thread(application.kill, "Denoiser")
        killed.set()


def steps(application: Application) -> list[int]:
    """Of each denoiser; which is which is not told."""
    return [counters["steps_run"] for counters in application.counters_of_each("Denoiser")]


def shares(before: list[int], after: list[int]) -> list[tuple[int, int]]:
    """How many steps each may have made meanwhile, the fewer first."""
    (a, b), (c, d) = before, after
    possible = [(c - a, d - b), (d - a, c - b)]
    return [(min(each), max(each)) for each in possible if min(each) >= 0]
