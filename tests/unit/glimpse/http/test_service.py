"""`glimpse.http.service`: readiness, admission, and the life of a generation."""

import asyncio
import time

import pytest

from glimpse.errors import NotReady, Overloaded, StageLost
from glimpse.event_log import Final
from glimpse.http import service as module
from glimpse.ports import Priority
from tests.fakes import make_request, until
from tests.unit.glimpse.http.asgi import Server

REQUEST = make_request()


async def test_it_is_ready_once_every_stage_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.005)
    server = Server(ready=False)
    server.stages.preview_decoder.unreachable = StageLost("preview_decode")
    waiting = asyncio.create_task(server.service.wait_for_stages())
    await asyncio.sleep(0.02)
    assert not server.service.ready
    with pytest.raises(NotReady):
        async with server.service.generation(REQUEST, Priority.INTERACTIVE):
            pass
    server.stages.preview_decoder.unreachable = None
    await waiting
    assert server.service.ready


async def test_health_does_not_wait_for_a_stage_that_is_silent() -> None:
    server = Server()
    server.stages.denoiser.silent = True
    began = time.monotonic()
    stages = await server.service.health(0.05)
    assert time.monotonic() - began < 1
    assert [name for name, answers in stages.items() if not answers] == ["denoiser"]


async def test_no_more_generations_are_admitted_than_there_are_places() -> None:
    server = Server(max_pictures=2)
    server.stages.denoiser.hold(1)
    async with server.service.generation(REQUEST, Priority.INTERACTIVE):
        async with server.service.generation(REQUEST, Priority.INTERACTIVE):
            await until(lambda: server.stages.denoiser.open == 2)
            with pytest.raises(Overloaded):
                async with server.service.generation(REQUEST, Priority.INTERACTIVE):
                    pass
        async with server.service.generation(REQUEST, Priority.INTERACTIVE):
            pass
    assert server.stages.at_work == 0


async def test_every_picture_takes_a_place() -> None:
    server = Server(max_pictures=4)
    server.stages.denoiser.hold(1)
    three = make_request(num_images=3)
    async with server.service.generation(three, Priority.INTERACTIVE):
        with pytest.raises(Overloaded):
            async with server.service.generation(three, Priority.INTERACTIVE):
                pass
        async with server.service.generation(REQUEST, Priority.INTERACTIVE):
            pass


async def test_a_stage_that_is_busy_is_not_taken_for_one_that_is_gone() -> None:
    server = Server()
    server.stages.denoiser.hold(1)
    server.stages.denoiser.silent = True
    assert (await server.service.health(0.01))["denoiser"] is False
    async with server.service.generation(REQUEST, Priority.INTERACTIVE):
        assert (await server.service.health(0.01))["denoiser"] is True


async def test_leaving_before_the_end_cancels_and_after_it_changes_nothing() -> None:
    server = Server()
    server.stages.denoiser.hold(2)
    async with server.service.generation(REQUEST, Priority.REALTIME):
        await until(lambda: server.stages.denoiser.steps_run == 1)
    assert server.stages.denoiser.cancelled == ["r1/0"]
    assert server.stages.denoiser.priorities == [Priority.REALTIME]
    request = make_request(num_inference_steps=1)
    async with server.service.generation(request, Priority.REALTIME) as log:
        events = [event async for _, event in log.read()]
    assert isinstance(events[-1], Final)


async def test_a_place_is_given_back_also_when_leaving_is_interrupted() -> None:
    server = Server(max_pictures=1)
    server.stages.denoiser.hold(1)

    async def use() -> None:
        async with server.service.generation(REQUEST, Priority.INTERACTIVE):
            await asyncio.sleep(10)

    using = asyncio.create_task(use())
    await until(lambda: server.stages.denoiser.open == 1)
    using.cancel()
    await asyncio.sleep(0)
    using.cancel()  # while it waits for the generation to stop
    await asyncio.wait({using})
    await asyncio.sleep(0.01)
    assert server.stages.at_work == 0
    async with server.service.generation(REQUEST, Priority.INTERACTIVE):
        pass
