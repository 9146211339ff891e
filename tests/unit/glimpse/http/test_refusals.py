"""Every refusal is counted once, under the code of its error, whichever door it was at."""

import dataclasses
from typing import Any

import pytest

from glimpse.errors import StageFailed
from glimpse.http.access import AccessOptions, KeysDue
from glimpse.http.caller import NOBODY, Caller
from glimpse.http.realtime import RealtimeOptions
from glimpse.key_limits import CountedHere
from glimpse.keys import Key, KeyRing, Limits, digest_of
from tests.fakes import until
from tests.unit.glimpse.http.asgi import INPUT, JSON, REALTIME, Exchange, Server
from tests.unit.glimpse.http.websocket import Socket, opens

PROMPT = {"prompt": "a lighthouse"}
EVIL = {"origin": "https://evil.example"}
PROXY = "/api/fal/proxy"


def guarded(**limits: int) -> Server:
    """Only those with the key `k` come in."""
    few = Limits(
        **{"requests_per_minute": 100, "concurrent_requests": 10, "sessions": 2, "pictures": 9}
        | limits
    )
    ring = KeyRing((Key("web", digest_of("k"), few),), b"a secret that is long enough for a token")
    due = KeysDue(lambda: ring, CountedHere(30), renew_s=1, patience_s=1)
    return Server(access=AccessOptions(("*",), ("*",), due))


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "reason"),
    [
        ("POST", "/", {"json": {"prompt": 7}}, 422, "invalid_request"),
        ("POST", "/stream", {"json": {}}, 422, "invalid_request"),
        ("POST", "/glimpse/other/stream", {"json": {}}, 422, "invalid_request"),
        ("POST", "/", {"content": b"{", "headers": JSON}, 422, "invalid_request"),
        ("POST", "/stream", {"json": {"prompt": "x" * 1000}}, 413, "body_too_large"),
        ("POST", "/stream", {"content": b"x"}, 415, "unsupported_media_type"),
        ("POST", "/nobody/nothing", {"json": PROMPT}, 404, "not_found"),
        ("GET", "/nothing", {}, 404, "not_found"),
        ("GET", "/stream", {}, 405, "method_not_allowed"),
        ("POST", "/tokens/", {"json": {}}, 422, "invalid_request"),
        ("POST", "/", {"json": PROMPT, "headers": EVIL}, 403, "forbidden"),
        ("POST", PROXY, {"json": PROMPT}, 422, "invalid_request"),
        ("POST", "/v1/images/generations", {"json": {}}, 400, "invalid_request"),
        (
            *("POST", "/v1/images/generations", {"json": {**PROMPT, "model": "nobody/nothing"}}),
            *(404, "model_not_found"),
        ),
        ("POST", "/v1/images/edits", {"json": {}}, 415, "unsupported_media_type"),
        ("POST", "/v1/models", {}, 405, "method_not_allowed"),
    ],
)
async def test_a_request_at_each_door(
    method: str, path: str, options: dict[str, Any], status: int, reason: str
) -> None:
    server = Server()
    answer = await server.ask(method, path, **options)
    assert answer.status_code == status
    assert server.meter.calls == [("refused", reason)]


async def test_by_the_name_of_the_server() -> None:
    server = Server(access=AccessOptions(("glimpse.example",), (), None))
    assert (await server.ask("POST", "/", json=INPUT)).status_code == 421
    assert not await opens(server.app, "/realtime")
    assert server.meter.of("refused") == ["wrong_host"] * 2


async def test_without_a_key_and_with_one_that_has_used_up_what_it_may() -> None:
    server = guarded(requests_per_minute=1)
    assert (await server.ask("POST", "/", json=INPUT)).status_code == 401
    assert not await opens(server.app, "/realtime")
    assert server.meter.of("refused") == ["unauthorized"] * 2
    server.meter.calls.clear()
    headers = {"authorization": "Key k", "host": "test"}
    assert (await server.ask("POST", "/", json=INPUT, headers=headers)).status_code == 200
    assert (await server.ask("POST", "/", json=INPUT, headers=headers)).status_code == 429
    assert not await opens(server.app, "/realtime", headers=headers)
    assert server.meter.of("refused") == ["rate_limited"] * 2


async def test_where_there_is_no_place() -> None:
    server = Server(max_pictures=1)
    gate = server.stages.denoiser.hold(1)
    first = server.open("/stream")
    await until(lambda: server.stages.denoiser.open == 1)
    for path, fields in (
        ("/", INPUT),
        ("/stream", INPUT),
        ("/v1/images/generations", PROMPT),
        ("/v1/images/generations", {**PROMPT, "stream": True}),
    ):
        assert (await server.ask("POST", path, json=fields)).status_code == 429
    assert server.meter.of("refused") == ["overloaded"] * 4
    gate.set()
    assert (await first.ended()).complete


async def test_what_nobody_foresaw() -> None:
    server = Server()

    def parse(*_: object, **__: object) -> Any:
        raise RuntimeError

    server.service.parse = parse  # type: ignore[method-assign]
    assert (await server.ask("POST", "/", json=INPUT)).status_code == 500
    assert server.meter.calls == [("refused", "internal_error")]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/", INPUT),
        ("/stream", INPUT),
        ("/v1/images/generations", PROMPT),
        ("/v1/images/generations", {**PROMPT, "stream": True}),
    ],
)
async def test_a_generation_that_fails_was_not_refused(path: str, fields: dict[str, Any]) -> None:
    server = Server()
    server.stages.denoiser.errors[2] = StageFailed("denoise")
    exchange = await server.open(path, fields).ended()
    assert exchange.status == 500 or not exchange.complete
    assert b"denoise stage failed" in exchange.body
    assert server.meter.of("refused") == []


async def test_what_is_served_is_not_refused_nor_is_a_client_that_leaves() -> None:
    server = Server()
    for path in ("/", "/health", "/docs"):
        assert (await server.ask("GET", path)).status_code == 200
    assert (await server.ask("POST", "/", json=INPUT)).status_code == 200
    gate = server.stages.denoiser.hold(1)
    for path in ("/", "/stream"):
        leaving = server.open(path)
        await until(lambda: server.stages.denoiser.open == 1)
        leaving.leave()
        await leaving.ended()
    gate.set()
    unfinished = Exchange(server.app, "/", b"{", headers=JSON, whole=False)
    unfinished.leave()
    await unfinished.ended()
    assert server.meter.of("refused") == []


async def test_health_that_is_not_well_is_no_refusal() -> None:
    server = Server(ready=False)
    assert (await server.ask("GET", "/health")).status_code == 503
    assert server.meter.of("refused") == []


# WebSockets


def realtime(server: Server, query: str = "") -> Socket:
    return Socket(server.app, "/realtime", query)


def server(**changes: Any) -> Server:
    options: RealtimeOptions = dataclasses.replace(REALTIME, **changes)
    return Server(realtime=options)


@pytest.mark.parametrize(
    ("path", "headers", "reason"),
    [
        ("/nobody/nothing/realtime", {}, "not_found"),
        ("/nothing", {}, "not_found"),
        ("/realtime", EVIL, "forbidden"),
    ],
)
async def test_a_websocket_that_does_not_open(
    path: str, headers: dict[str, str], reason: str
) -> None:
    one = Server()
    assert not await opens(one.app, path, headers={"host": "test", **headers})
    assert one.meter.calls == [("refused", reason)]


@pytest.mark.parametrize(("query", "path"), [("max_buffering=0", "/realtime"), ("binary=2", "/ws")])
async def test_a_session_that_asks_for_what_there_is_not(query: str, path: str) -> None:
    one = Server()
    async with Socket(one.app, path, query) as socket:
        assert (await socket.receive())["error"] == "INVALID_REQUEST"
        await socket.closed()
    assert one.meter.calls == [("refused", "invalid_request")]


async def test_a_session_too_many_and_one_too_soon() -> None:
    one = Server()
    async with realtime(one), realtime(one), realtime(one) as third:
        assert (await third.receive())["error"] == "OVERLOADED"
    assert one.meter.calls == [("refused", "overloaded")]
    one = Server(ready=False)
    async with realtime(one) as socket:
        assert (await socket.receive())["error"] == "NOT_READY"
    assert one.meter.calls == [("refused", "not_ready")]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\xc1", "invalid_message"),
        ("text", "invalid_message"),
        ({"prompt": 7}, "invalid_request"),
        (b"x" * 1001, "frame_too_large"),
    ],
)
async def test_a_message(frame: Any, reason: str) -> None:
    one = Server()
    async with realtime(one) as socket:
        socket.send(frame)
        assert (await socket.receive())["error"] == reason.upper()
    assert one.meter.of("refused") == [reason]


async def test_messages_beyond_the_rate_and_the_end_of_a_flood() -> None:
    async with realtime(one := server(messages_per_s=1, max_unsent=100)) as socket:
        for _ in range(12):
            socket.send(b"x")
        while (await socket.receive())["type"] != "websocket.close":
            pass
    assert one.meter.of("refused") == ["invalid_message", *["rate_limited"] * 8]


async def test_a_message_when_there_is_nothing_to_make_it_with() -> None:
    one = Server()
    async with realtime(one) as socket:
        await until(lambda: socket.taken)
        one.service.ready = False
        socket.send(PROMPT)
        assert (await socket.receive())["error"] == "NOT_READY"
    assert one.meter.of("refused") == ["not_ready"]


async def test_a_picture_of_a_session_that_fails_was_not_refused_nor_was_an_idle_session() -> None:
    one = server(idle_timeout_s=0.01)
    one.stages.denoiser.errors[1] = StageFailed("denoise")
    async with realtime(one) as socket:
        socket.send(PROMPT)
        assert (await socket.receive())["error"] == "STAGE_FAILED"
        assert (await socket.receive())["error"] == "TIMEOUT"
    assert one.meter.of("refused") == []


async def test_a_session_that_fails_in_a_way_nobody_foresaw() -> None:
    one = Server()

    def session(caller: Caller = NOBODY) -> Any:
        raise RuntimeError

    one.service.session = session  # type: ignore[method-assign]
    async with realtime(one) as socket:
        assert (await socket.receive())["error"] == "INTERNAL_ERROR"
    assert one.meter.of("refused") == ["internal_error"]
