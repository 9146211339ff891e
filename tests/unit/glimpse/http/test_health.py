"""`glimpse.http.health`: who asks, how often, and how old an answer may be."""

import asyncio

from glimpse.errors import StageLost
from glimpse.http.health import KEPT_S, TIMEOUT_S, Health
from glimpse.http.service import Service
from glimpse.ports import Priority
from tests.fakes import make_request, until
from tests.unit.glimpse.http.asgi import Server


class Asked:
    """A server's health on a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.times = 0
        self.server = Server()
        self.stages = self.server.stages
        self.service: Service = self.server.service
        self.health = Health(self.service, lambda: self.now)
        ask = self.service.health

        async def counted(timeout_s: float) -> dict[str, bool]:
            self.times += 1
            return await ask(timeout_s)

        self.service.health = counted  # type: ignore[method-assign]

    async def ready(self) -> bool:
        return all((await self.health.stages()).values())


async def test_an_answer_is_kept_for_a_second() -> None:
    asked = Asked()
    for _ in range(100):
        assert await asked.ready()
        asked.now += KEPT_S / 101
    assert asked.times == 1
    asked.now += KEPT_S
    assert await asked.ready() and asked.times == 2


async def test_who_asks_at_the_same_time_is_told_the_same() -> None:
    asked = Asked()
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(asked.ready())
    assert asked.times == 1


async def test_nobody_is_told_of_a_stage_that_was_lost_for_longer_than_that() -> None:
    asked = Asked()
    assert await asked.ready()
    asked.stages.denoiser.unreachable = StageLost("denoise")
    asked.now += KEPT_S - 0.01
    assert await asked.ready()
    asked.now += 0.01
    assert not await asked.ready()
    asked.stages.denoiser.unreachable = None
    asked.now += KEPT_S
    assert await asked.ready()


async def test_the_time_counts_from_the_question() -> None:
    """A stage may be lost when it has answered, while another one is waited for."""
    asked = Asked()
    asked.stages.denoiser.silent = True
    answering = asyncio.create_task(asked.ready())
    await until(lambda: asked.times == 1)
    asked.now += KEPT_S
    asked.stages.denoiser.silent = False
    assert await answering
    asked.stages.text_encoder.unreachable = StageLost("text_encode")
    assert not await asked.ready() and asked.times == 2
    assert TIMEOUT_S < KEPT_S  # so that nobody waits for a question for longer than that


async def test_a_client_that_leaves_takes_no_answer_from_another() -> None:
    asked = Asked()
    asked.stages.denoiser.silent = True
    leaving, staying = (asyncio.create_task(asked.ready()) for _ in range(2))
    await until(lambda: asked.times == 1)
    leaving.cancel()
    await asyncio.wait({leaving})
    asked.stages.denoiser.silent = False
    assert await staying and asked.times == 1


async def test_a_stage_that_is_busy_with_a_session_is_not_gone() -> None:
    server = Server()
    server.stages.denoiser.silent = True
    assert not (await server.service.health(0.01))["denoiser"]
    async with server.service.session():
        assert (await server.service.health(0.01))["denoiser"]
        server.stages.denoiser.there.clear()
        assert not (await server.service.health(0.01))["denoiser"]


async def test_and_one_that_is_busy_with_a_picture_neither() -> None:
    server = Server()
    server.stages.denoiser.hold(1)
    server.stages.denoiser.silent = True
    async with server.service.generation(make_request(), Priority.INTERACTIVE):
        assert (await server.service.health(0.01))["denoiser"]


async def test_the_route_keeps_answers_and_caches_do_not() -> None:
    server = Server()
    answer = await server.ask("GET", "/health")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    server.stages.denoiser.unreachable = StageLost("denoise")
    assert (await server.ask("GET", "/health")).json() == answer.json()
