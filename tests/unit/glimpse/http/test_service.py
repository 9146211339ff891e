"""`glimpse.http.service`: readiness, admission, and the life of a generation."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from glimpse.errors import NotReady, Overloaded, StageLost
from glimpse.event_log import Final
from glimpse.http import service as module
from glimpse.http.caller import Caller
from glimpse.ports import Priority, StepEvent
from tests.fakes import FakeMeter, looked_at, make_request, until
from tests.unit.glimpse.http.asgi import Server
from tests.wire.sent import ORANGE

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


def caller(owner: str) -> Caller:
    return Caller(None, owner)


async def made(server: Server, owner: str, **changes: Any) -> Final:
    """The end of a generation."""
    request = make_request(**changes)
    async with server.service.generation(
        request, Priority.INTERACTIVE, caller=caller(owner)
    ) as log:
        events = [event async for _, event in log.read()]
    assert isinstance(events[-1], Final)
    return events[-1]


async def test_one_owner_with_requests_always_ready_keeps_nobody_out() -> None:
    """The first picture of another owner begins when the next one is ready, whatever the first
    owner asks for meanwhile."""
    server = Server(max_pictures=8, place_wait_s=60)
    codec, denoiser = server.stages.image_codec, server.stages.denoiser
    ready = [codec.hold(seed) for seed in range(8)]
    refused: list[int] = []

    async def greedy(seed: int) -> None:
        while True:
            try:
                await made(server, "many", seed=seed)
            except Overloaded:
                refused.append(seed)
            await asyncio.sleep(0)

    greedily = [asyncio.create_task(greedy(seed)) for seed in range(8)]
    await until(lambda: codec.open == 8)
    one = asyncio.create_task(made(server, "one", seed=99))
    await until(lambda: len(server.service._pictures._queue) == 1)
    ready[0].set()
    assert (await one).pictures[0].data == b"picture 99"
    assert [options.owner for options in denoiser.options[:9]] == ["many"] * 8 + ["one"]
    assert refused and set(refused) == {0}
    assert codec.open >= 7  # nobody else was ready
    for task in greedily:
        task.cancel()
    await asyncio.wait(greedily)


async def test_how_long_a_place_was_waited_for_is_counted_where_there_was_one_in_the_end() -> None:
    meter = FakeMeter()
    server = Server(max_pictures=1, place_wait_s=0.02, meter=meter)
    go_on = server.stages.denoiser.hold(1)
    first = asyncio.create_task(made(server, "a"))
    await until(lambda: server.stages.denoiser.open == 1)
    with pytest.raises(Overloaded):
        await made(server, "b")
    async with server.service.session(caller("a")):
        pass
    go_on.set()
    await first
    assert len(meter.of("placed")) == 2 and all(0 <= waited < 5 for waited in meter.of("placed"))


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


async def test_a_stage_without_a_replica_is_gone_however_busy_the_server_is() -> None:
    server = Server()
    server.stages.denoiser.hold(1)
    async with server.service.generation(REQUEST, Priority.INTERACTIVE):
        server.stages.image_codec.there.clear()
        health = await server.service.health(0.01)
        assert [name for name, answers in health.items() if not answers] == ["image_codec"]


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


@pytest.mark.parametrize(
    ("away", "changes", "waits"),
    [
        ("text_encoder", {}, True),
        ("denoiser", {}, True),
        ("image_codec", {}, True),
        ("preview_decoder", {}, False),  # previews are rough without it
        ("image_codec", {"full_quality": False}, False),
        ("preview_decoder", {"full_quality": False}, False),
        ("preview_decoder", {"full_quality": False, "image": looked_at(ORANGE)}, True),
    ],
)
async def test_a_request_waits_for_a_stage_that_it_needs_and_that_has_no_replica(
    away: str, changes: dict[str, Any], waits: bool
) -> None:
    server = Server(max_pictures=1)
    stage = getattr(server.stages, away)
    stage.there.clear()
    request = make_request(**changes)

    async def make() -> Final:
        async with server.service.generation(request, Priority.INTERACTIVE) as log:
            events = [event async for _, event in log.read()]
        assert isinstance(events[-1], Final)
        return events[-1]

    making = asyncio.create_task(make())
    if waits:
        await asyncio.sleep(0.02)
        assert not making.done()
        with pytest.raises(Overloaded):  # it has its place meanwhile
            await make()
        stage.there.set()
    async with asyncio.timeout(5):
        assert (await making).steps == 4


async def test_a_request_does_not_wait_for_ever_and_gives_its_place_back() -> None:
    server = Server(max_pictures=1, stage_wait_s=0.02)
    server.stages.denoiser.there.clear()
    for _ in range(2):
        with pytest.raises(NotReady, match="denoiser"):
            async with server.service.generation(REQUEST, Priority.INTERACTIVE):
                pass
    server.stages.denoiser.there.set()
    async with server.service.generation(REQUEST, Priority.INTERACTIVE) as log:
        assert isinstance([event async for _, event in log.read()][-1], Final)


async def test_who_leaves_while_it_waits_for_a_stage_gives_its_place_back() -> None:
    server = Server(max_pictures=1)
    server.stages.denoiser.there.clear()
    leaving = asyncio.create_task(
        server.service.generation(REQUEST, Priority.INTERACTIVE).__aenter__()
    )
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.wait({leaving})
    server.stages.denoiser.there.set()
    async with server.service.generation(REQUEST, Priority.INTERACTIVE):
        pass


async def test_a_generation_that_is_cancelled_twice_is_over_before_the_next_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each cancelled at a moment of its own: the second while the first is being carried out."""
    server = Server()
    ending = asyncio.Event()
    denoise = server.stages.denoiser.denoise

    async def slow_to_end(*arguments: Any) -> AsyncGenerator[StepEvent, None]:
        try:
            async for event in denoise(*arguments):
                yield event
        finally:
            ending.set()
            for _ in range(20):
                await asyncio.sleep(0)
            over.set()

    over = asyncio.Event()
    monkeypatch.setattr(server.stages.denoiser, "denoise", slow_to_end)
    server.stages.denoiser.hold(2)

    async def make() -> None:
        async with server.service.generation(REQUEST, Priority.REALTIME) as log:
            async for _ in log.read():
                pass

    making = asyncio.create_task(make())
    await until(lambda: server.stages.denoiser.steps_run == 1)
    making.cancel()
    await ending.wait()
    making.cancel()
    await asyncio.wait({making})
    assert making.cancelled()
    assert over.is_set()
