"""`glimpse.http.auth`: nobody without a key comes in where one is due, by any route."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount
from starlette.websockets import WebSocket

from glimpse.errors import AccessUnavailable
from glimpse.http.access import AccessOptions, KeysDue
from glimpse.key_limits import CountedHere
from glimpse.keys import Key, KeyRing, Limits, digest_of
from tests.fakes import until
from tests.unit.glimpse.http.asgi import INPUT, Exchange, Server
from tests.unit.glimpse.http.websocket import Socket, opens

KEY, OTHER = "glimpse_of-a-test", "glimpse_of-another"
SECRET = b"a secret of forty-eight bytes, or a few more than that"
ROOMY = Limits(requests_per_minute=100, concurrent_requests=10, sessions=2, pictures=24)
AUTHORIZED = {"authorization": f"Key {KEY}"}


class Guarded:
    """A server that asks for keys, with a WebSocket door to try."""

    def __init__(self, limits: Limits = ROOMY) -> None:
        self.ring = KeyRing(
            (Key("web", digest_of(KEY), limits), Key("other", digest_of(OTHER), limits)), SECRET
        )
        due = KeysDue(lambda: self.ring, CountedHere(30), renew_s=1, patience_s=1)
        self.server = Server(access=AccessOptions(("*",), ("*",), due))
        self.callers: list[str | None] = []
        for path in ("/door", "/{owner}/{alias}/door"):
            self.server.app.add_api_websocket_route(path, self._door)
        self.ask = self.server.ask

    async def _door(self, websocket: WebSocket) -> None:
        key = websocket.state.caller.key
        self.callers.append(key and key.name)
        await websocket.accept()
        await websocket.receive()

    async def token(self, *apps: str, **fields: Any) -> str:
        body = {"allowed_apps": list(apps), **fields}
        answer = await self.ask("POST", "/tokens/", json=body, headers=AUTHORIZED)
        assert answer.status_code == 200
        return str(answer.json())


def every_route(app: FastAPI) -> Iterator[tuple[str, str]]:
    """The method and a path of every route, however it is nested; WS for a WebSocket's."""
    for route in iter_route_contexts(app.routes):
        path = str(route.path).format(owner="glimpse", alias="miniature")
        if isinstance(route.original_route, Mount):
            yield "GET", f"{path}/anything"
        for method in route.methods or {"WS"}:
            yield method, path


PUBLIC = {"/", "/glimpse/miniature", "/health", "/openapi.json", "/docs", "/docs/oauth2-redirect"}


async def test_no_route_but_the_public_ones_answers_without_a_key() -> None:
    guarded = Guarded()
    seen = set(every_route(guarded.server.app))
    assert {("POST", "/stream"), ("POST", "/glimpse/miniature"), ("WS", "/door")} <= seen
    for method, path in seen:
        if method == "WS":
            assert not await opens(guarded.server.app, path), path
            continue
        answer = await guarded.ask(method, path)
        if method in ("GET", "HEAD") and (path in PUBLIC or path.startswith("/docs/static/")):
            assert answer.status_code != 401, path
        else:
            assert answer.status_code == 401, (method, path)
            said = answer.json()
            code = said["error"]["code"] if path.startswith("/v1/") else said["error_type"]
            assert code == "unauthorized"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["x-fal-request-id"]
    assert guarded.callers == []
    assert guarded.server.stages.denoiser.jobs == []


async def test_what_does_not_exist_is_not_told_without_a_key() -> None:
    guarded = Guarded()
    for path in ("/nothing", "/nobody/nothing", "/docs/../stream", "//", "/docs/static"):
        assert (await guarded.ask("POST", path)).status_code == 401
        assert not await opens(guarded.server.app, path)


@pytest.mark.parametrize("scheme", ["Key", "Bearer", "key", "BEARER"])
async def test_a_key_opens_every_door(scheme: str) -> None:
    guarded = Guarded()
    headers = {"authorization": f"{scheme} {KEY}"}
    for path in ("/", "/stream", "/glimpse/miniature", "/glimpse/miniature/stream"):
        answer = await guarded.ask("POST", path, json=INPUT, headers=headers)
        assert answer.status_code == 200
    assert await opens(guarded.server.app, "/door", headers=headers)
    assert guarded.callers == ["web"]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Key",
        "Key ",
        KEY,
        f"Basic {KEY}",
        f"Key {KEY}x",
        f"Key {KEY[:-1]}",
        "Key any",
        "Key \xff",
    ],
)
async def test_anything_else_does_not(header: str) -> None:
    guarded = Guarded()
    headers = {"authorization": header.encode("latin-1")}
    answer = await guarded.server.ask("POST", "/", json=INPUT, headers=headers)
    assert answer.status_code == 401
    assert KEY[:8] not in answer.text


async def test_failed_authentication_is_counted_and_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guarded = Guarded()
    wrong = {"authorization": "Key glimpse_wrong"}
    for headers in ({}, wrong, wrong):
        await guarded.ask("POST", "/", json=INPUT, headers=headers)
        assert not await opens(guarded.server.app, "/door", "fal_jwt_token=a", headers)
    assert guarded.server.meter.of("refused") == ["unauthorized"] * 6
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["authentication failed, from 127.0.0.1"]
    assert "glimpse_wrong" not in caplog.text


@pytest.mark.parametrize("client", [("a" * 60_000, 1), ("1.2.3.4 ERROR forged", 0), None])
async def test_what_is_no_address_does_not_reach_the_log(
    client: tuple[str, int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    transport = httpx.ASGITransport(Guarded().server.app, client=client)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        assert (await http.post("/", json=INPUT)).status_code == 401
    assert "authentication failed, from an unknown address" in caplog.text


async def test_an_address_is_logged_without_its_zone(caplog: pytest.LogCaptureFixture) -> None:
    transport = httpx.ASGITransport(Guarded().server.app, client=("fe80::1% forged", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        await http.post("/", json=INPUT)
    assert "from fe80::1" in caplog.text and "forged" not in caplog.text


async def test_log_lines_name_the_key_of_a_picture_and_of_a_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guarded = Guarded()
    with caplog.at_level("INFO", "glimpse"):
        await guarded.ask("POST", "/", json=INPUT, headers=AUTHORIZED)
        other = {"authorization": f"Bearer {OTHER}"}
        await guarded.ask("POST", "/stream", json=INPUT, headers=other)
        query = f"fal_jwt_token={await guarded.token('miniature')}"
        async with Socket(guarded.server.app, "/realtime", query) as socket:
            socket.send({"prompt": "a lighthouse"})
            assert (await socket.receive())["type"] == "final"
        await Server().ask("POST", "/", json=INPUT)
    accepted = [line for line in caplog.messages if line.startswith("accepted")]
    assert [line.rsplit(", ", 1)[1] for line in accepted] == ["key web", "key other", "key web"] + [
        "key -"
    ]
    assert [line for line in caplog.messages if "session" in line] == [
        "a session begins, key web",
        "a session ends: its client left, key web",
    ]
    assert KEY not in caplog.text and OTHER not in caplog.text


async def test_a_key_that_is_taken_away_is_refused_at_once_and_so_are_its_tokens() -> None:
    guarded = Guarded()
    token = await guarded.token("miniature")
    assert (await guarded.ask("POST", "/", json=INPUT, headers=AUTHORIZED)).status_code == 200
    guarded.ring = KeyRing(guarded.ring.keys[1:], SECRET)
    assert (await guarded.ask("POST", "/", json=INPUT, headers=AUTHORIZED)).status_code == 401
    assert not await opens(guarded.server.app, "/door", f"fal_jwt_token={token}")


async def test_keys_that_cannot_be_read_keep_everybody_out() -> None:
    def unreadable() -> KeyRing:
        raise AccessUnavailable("Keys cannot be checked.")

    due = KeysDue(unreadable, CountedHere(30), renew_s=1, patience_s=1)
    server = Server(access=AccessOptions(("*",), (), due))
    answer = await server.ask("POST", "/", json=INPUT, headers=AUTHORIZED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert (await server.ask("GET", "/health")).status_code == 200


async def test_where_no_key_is_due_credentials_are_ignored() -> None:
    server = Server()
    for headers in ({}, {"authorization": "Key any"}, {"authorization": "nonsense"}):
        answer = await server.ask("POST", "/stream?fal_jwt_token=x", json=INPUT, headers=headers)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("apps", "path", "lets_in"),
    [
        (["miniature"], "/glimpse/miniature/door", True),
        (["miniature"], "/door", True),
        (["glimpse/miniature"], "/glimpse/miniature/door", True),
        (["glimpse/miniature/door"], "/glimpse/miniature/door", True),
        (["glimpse/miniature/door"], "/door", True),
        (["other", "miniature"], "/door", True),
        (["other"], "/glimpse/other/door", True),
        (["other"], "/glimpse/miniature/door", False),
        (["other"], "/door", False),
        (["glimpse/other"], "/glimpse/miniature/door", False),
        (["glimpse/miniature/realtime"], "/glimpse/miniature/door", False),
        (["glimpse/miniature/doo"], "/glimpse/miniature/door", False),
    ],
)
async def test_a_token_opens_what_it_names_and_nothing_else(
    apps: list[str], path: str, lets_in: bool
) -> None:
    guarded = Guarded()
    token = await guarded.token(*apps)
    query = f"max_buffering=2&fal_jwt_token={token}"
    assert await opens(guarded.server.app, path, query) is lets_in
    assert guarded.callers == (["web"] if lets_in else [])


async def test_a_token_is_for_streams_too_and_for_no_other_route() -> None:
    guarded = Guarded()
    token = await guarded.token("miniature")
    query = f"?fal_jwt_token={token}"
    for path in ("/stream", "/glimpse/miniature/stream"):
        assert (await guarded.ask("POST", path + query, json=INPUT)).status_code == 200
    body = {"allowed_apps": ["miniature"]}
    for path in ("/", "/glimpse/miniature", "/tokens/", "/queue/glimpse/miniature/stream"):
        assert (await guarded.ask("POST", path + query, json=body)).status_code == 401
    bearer = {"authorization": f"Bearer {token}"}
    assert (await guarded.ask("POST", "/", json=INPUT, headers=bearer)).status_code == 401


def claims(**changes: Any) -> dict[str, Any]:
    known = Key("web", digest_of(KEY), ROOMY)
    return {"sub": known.id, "apps": ["miniature"], "exp": int(time.time()) + 60} | changes


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in claims().items() if key != name}


def unsigned() -> str:
    return jwt.encode(claims(), "", "none")


def tampered() -> str:
    head, _, signature = jwt.encode(claims(apps=["other"]), SECRET, "HS256").split(".")
    _, body, _ = jwt.encode(claims(), SECRET, "HS256").split(".")
    return f"{head}.{body}.{signature}"


@pytest.mark.parametrize(
    "made",
    [
        lambda: jwt.encode(claims(exp=int(time.time()) - 1), SECRET, "HS256"),
        lambda: jwt.encode(claims(), b"another secret of thirty-two bytes", "HS256"),
        lambda: jwt.encode(claims(), SECRET, "HS384"),
        lambda: jwt.encode(claims(sub="0" * 16), SECRET, "HS256"),
        lambda: jwt.encode(claims(sub="web"), SECRET, "HS256"),
        lambda: jwt.encode(without("exp"), SECRET, "HS256"),
        lambda: jwt.encode(without("apps"), SECRET, "HS256"),
        lambda: jwt.encode(without("sub"), SECRET, "HS256"),
        unsigned,
        tampered,
        lambda: unsigned().rsplit(".", 1)[0] + "." + tampered().rsplit(".", 1)[1],
        lambda: "",
        lambda: "a.b.c",
        lambda: KEY,
    ],
)
async def test_a_token_that_has_run_out_is_foreign_or_forged_is_refused(
    made: Callable[[], str],
) -> None:
    guarded = Guarded()
    query = f"fal_jwt_token={made()}"
    assert not await opens(guarded.server.app, "/door", query)
    answer = await guarded.ask("POST", f"/stream?{query}", json=INPUT)
    assert (answer.status_code, answer.json()["error_type"]) == (401, "unauthorized")


async def test_the_right_claims_do_open() -> None:
    """Or the test above would prove nothing."""
    guarded = Guarded()
    token = jwt.encode(claims(), SECRET, "HS256")
    assert await opens(guarded.server.app, "/door", f"fal_jwt_token={token}")


async def test_a_key_that_asks_too_often_is_told_when_to_come_back() -> None:
    guarded = Guarded(
        Limits(requests_per_minute=2, concurrent_requests=10, sessions=10, pictures=24)
    )
    answers = [await guarded.ask("POST", "/", json=INPUT, headers=AUTHORIZED) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error_type"] == "rate_limited"
    assert 50 < int(answers[2].headers["retry-after"]) <= 60
    assert not await opens(guarded.server.app, "/door", headers=AUTHORIZED)
    other = {"authorization": f"Bearer {OTHER}"}
    assert (await guarded.ask("POST", "/", json=INPUT, headers=other)).status_code == 200


async def test_asking_how_things_are_counts_for_nothing() -> None:
    guarded = Guarded(Limits(requests_per_minute=1, concurrent_requests=1, sessions=1, pictures=24))
    for _ in range(5):
        assert (await guarded.ask("GET", "/nothing", headers=AUTHORIZED)).status_code == 404
    assert (await guarded.ask("POST", "/", json=INPUT, headers=AUTHORIZED)).status_code == 200


async def test_open_streams_are_bounded_and_one_that_is_left_makes_room() -> None:
    guarded = Guarded(
        Limits(requests_per_minute=100, concurrent_requests=1, sessions=1, pictures=24)
    )
    go_on = guarded.server.stages.denoiser.hold(2)
    headers = {"content-type": "application/json", **AUTHORIZED}
    first = Exchange(guarded.server.app, "/stream", json.dumps(INPUT).encode(), headers=headers)
    await until(lambda: bool(first.sent))
    answer = await guarded.ask("POST", "/stream", json=INPUT, headers=AUTHORIZED)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert "as many requests open as it may (1)" in answer.json()["message"]
    first.leave()
    await first.ended()
    go_on.set()
    await until_admitted(guarded)


async def until_admitted(guarded: Guarded) -> None:
    async with asyncio.timeout(5):
        while (
            await guarded.ask("POST", "/stream", json=INPUT, headers=AUTHORIZED)
        ).status_code != 200:
            await asyncio.sleep(0.001)


async def test_a_session_holds_its_lease_for_as_long_as_it_lasts() -> None:
    guarded = Guarded()
    app = guarded.server.app
    token = await guarded.token("miniature")
    async with Socket(app, "/door", headers=AUTHORIZED) as first:
        async with Socket(app, "/door", headers=AUTHORIZED) as second:
            assert first.accepted and second.accepted
            assert not await opens(app, "/door", headers=AUTHORIZED)
            assert not await opens(app, "/door", f"fal_jwt_token={token}")
        assert await opens(app, "/door", headers=AUTHORIZED)


async def test_a_door_that_fails_gives_its_lease_back() -> None:
    guarded = Guarded(
        Limits(requests_per_minute=100, concurrent_requests=1, sessions=1, pictures=24)
    )

    async def broken(websocket: WebSocket) -> None:
        raise RuntimeError("broken")

    guarded.server.app.add_api_websocket_route("/broken", broken)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            await opens(guarded.server.app, "/broken", headers=AUTHORIZED)
        await asyncio.sleep(0.001)
