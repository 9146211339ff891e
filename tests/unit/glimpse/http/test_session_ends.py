"""How a session ends: each time the client is told why, and its place is free again."""

import asyncio

import pytest

from glimpse.http import realtime as door
from tests.fakes import until
from tests.unit.glimpse.http.asgi import Server
from tests.unit.glimpse.http.test_realtime import picture_of, realtime, server
from tests.unit.glimpse.http.websocket import Socket


async def test_there_are_only_so_many_sessions() -> None:
    one = Server()
    async with realtime(one), realtime(one):
        async with realtime(one) as third:
            assert (await third.receive())["error"] == "OVERLOADED"
            assert (await third.closed())[0] == 1013
    async with realtime(one) as again:
        again.send({"prompt": "p"})
        assert (await again.receive())["type"] == "final"


def come(one: Server, port: int) -> Socket:
    return Socket(one.app, "/realtime", port=port)


async def test_a_session_waits_for_the_next_place_and_makes_what_was_asked_meanwhile() -> None:
    one = Server(max_sessions=2, place_wait_s=60)
    async with come(one, 1) as first, come(one, 1):
        async with come(one, 1) as refused:  # with both places its owner has its share
            assert (await refused.receive())["error"] == "OVERLOADED"
        async with come(one, 2) as waiting:
            waiting.send({"prompt": "p", "seed": 5})
            await until(lambda: waiting.taken)
            assert one.stages.denoiser.jobs == []
            first.leave()
            assert await picture_of(waiting) == "preview 5"
            async with come(one, 1) as refused:
                assert (await refused.receive())["error"] == "OVERLOADED"


async def test_a_session_that_leaves_while_it_waits_leaves_the_queue() -> None:
    one = Server(max_sessions=1, place_wait_s=60)
    async with come(one, 1) as first:
        async with come(one, 2) as leaving:
            leaving.send({"prompt": "p"})
            await until(lambda: len(one.service._sessions._queue) == 1)
        assert not one.service._sessions._queue
        first.leave()
        async with come(one, 3) as next_one:
            next_one.send({"prompt": "p", "seed": 5})
            assert await picture_of(next_one) == "preview 5"


async def test_a_session_that_waits_in_vain_is_told_so() -> None:
    one = Server(max_sessions=1, place_wait_s=0.01)
    async with come(one, 1), come(one, 2) as waiting:
        assert (await waiting.receive())["error"] == "OVERLOADED"
        assert (await waiting.closed())[0] == 1013


async def test_an_idle_session_ends_quietly() -> None:
    async with realtime(server(idle_timeout_s=0.01)) as socket:
        told = await socket.receive()
        assert told["error"] == "TIMEOUT"
        assert await socket.closed() == (1000, told["reason"])


async def test_a_session_at_work_is_not_idle() -> None:
    one = server(idle_timeout_s=0.01)
    gate = one.stages.denoiser.hold(1)
    async with realtime(one) as socket:
        socket.send({"prompt": "p", "seed": 3})
        await until(lambda: one.stages.denoiser.open == 1)
        await asyncio.sleep(0.05)
        gate.set()
        assert await picture_of(socket) == "preview 3"
        assert (await socket.receive())["error"] == "TIMEOUT"


async def test_a_frame_that_is_too_large() -> None:
    async with realtime(Server()) as socket:
        socket.send(b"x" * 1001)
        assert (await socket.receive())["error"] == "FRAME_TOO_LARGE"
        assert (await socket.closed())[0] == 1009


async def test_more_bytes_than_anybody_would_send() -> None:
    async with realtime(server(max_input_bytes_per_s=1000, max_unsent=10)) as socket:
        for _ in range(6):  # four seconds' worth may come at once
            socket.send(b"x" * 800)
        for _ in range(5):
            assert (await socket.receive())["error"] == "INVALID_MESSAGE"
        assert (await socket.receive())["error"] == "INPUT_BUDGET"
        assert (await socket.closed())[0] == 1008


async def test_a_flood_of_messages() -> None:
    async with realtime(server(messages_per_s=1, max_unsent=100)) as socket:
        for _ in range(12):
            socket.send(b"x")
        answers = [await socket.receive() for _ in range(9)]
        told = [answer["error"] for answer in answers]
        assert told == ["INVALID_MESSAGE", *["RATE_LIMITED"] * 8]
        assert (await socket.closed())[0] == 1008


@pytest.mark.parametrize(
    "asked",
    ["0", "61", "-1", "x", "1" * 5000, "²", "000000060999", "0" * 5000, "060.0", "٣", "1%0A", ""],
)
async def test_a_buffer_of_no_size(asked: str) -> None:
    async with realtime(Server(), f"max_buffering={asked}") as socket:
        told = await socket.receive()
        assert told["error"] == "INVALID_REQUEST"
        assert "max_buffering" in told["reason"]
        assert (await socket.closed())[0] == 1008


async def test_a_query_of_another_door() -> None:
    async with realtime(Server(), "binary=1") as socket:
        assert "image_encoding" in (await socket.receive())["reason"]
        assert (await socket.closed())[0] == 1008


async def test_who_does_not_read_is_sent_only_so_much() -> None:
    """Behind a proxy that takes whatever it is sent."""
    async with realtime(server(max_output_bytes=1000)) as socket:
        for _ in range(20):
            socket.send({"prompt": "p"})
            while not isinstance(told := await socket.receive(), dict):
                pass
            if told.get("error") == "OUTPUT_BUDGET":
                assert (await socket.closed())[0] == 1008
                return
    pytest.fail("the session went on")


async def test_before_the_stages_are_ready() -> None:
    async with realtime(Server(ready=False)) as socket:
        assert (await socket.receive())["error"] == "NOT_READY"
        assert (await socket.closed())[0] == 1013


async def test_a_failure_that_nobody_foresaw(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Server()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("glimpse.protocols.realtime.merged", broken)
    async with realtime(one) as socket:
        socket.send({"prompt": "p"})
        told = await socket.receive()
        assert told["error"] == "INTERNAL_ERROR" and "secret" not in told["reason"]
        assert (await socket.closed())[0] == 1011


async def test_no_such_application() -> None:
    async with Socket(Server().app, "/no/such/realtime") as socket:
        assert socket.opened["type"] == "websocket.http.response.start"
        assert socket.opened["status"] == 404


async def test_a_client_that_is_gone_before_it_can_be_told() -> None:
    async with realtime(server(max_frame_bytes=10)) as socket:
        socket.send(b"x" * 11)
        socket.leave()


async def test_a_client_that_does_not_read_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind a server that has backpressure, which would wait for it for ever."""
    monkeypatch.setattr(door, "FAREWELL_S", 0.01)
    one = server(idle_timeout_s=0.01)
    async with realtime(one) as socket:
        socket.reading.clear()
        await until(socket.served.done)
