"""`glimpse.http.caller`: who owns a picture, and the pictures that a key may have."""

import asyncio
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.types import Scope

from glimpse.errors import AccessUnavailable, Forbidden, RateLimited
from glimpse.http.access import AccessOptions, KeysDue
from glimpse.http.caller import NOBODY, Caller, of_connection
from glimpse.http.leases import Leases
from glimpse.key_limits import CountedHere
from glimpse.keys import Key, KeyRing, Limits, digest_of
from tests.fakes import until
from tests.unit.glimpse.http.asgi import INPUT, JSON, Exchange, Server
from tests.unit.glimpse.http.websocket import Socket

LIMITS = Limits(requests_per_minute=100, concurrent_requests=10, sessions=2, pictures=4)
KEY = Key("web", digest_of("k"), LIMITS)
SERVER = ("127.0.0.1", 8000)


def connection(
    client: Any = ("10.0.0.7", 4711), server: Any = SERVER, *headers: tuple[bytes, bytes]
) -> Scope:
    return {"type": "http", "client": client, "server": server, "headers": list(headers)}


def owner(*arguments: Any) -> str:
    return of_connection(connection(*arguments)).owner


def test_a_connection_is_an_owner() -> None:
    assert owner() == owner(["10.0.0.7", 4711]) == owner(("10.0.0.7", 4711))
    others = (
        owner(("10.0.0.7", 4712)),
        owner(("10.0.0.8", 4711)),
        owner(("10.0.0.7", 4711), ("127.0.0.1", 8001)),
        owner(("::1", 4711, 0, 0)),
        owner(("10.0.0.7", 4711), None),
    )
    assert len({owner(), *others}) == 1 + len(others)
    assert "10.0.0.7" not in owner() and len(owner()) == 16


@pytest.mark.parametrize("client", [None, ("10.0.0.7", 0), ["10.0.0.7", 0], ("10.0.0.7", None)])
def test_where_the_connection_is_not_known_the_request_is_the_owner(client: Any) -> None:
    assert len({owner(client) for _ in range(10)}) == 10


@pytest.mark.parametrize("forwarded", [b"", b"127.0.0.1:4711", b"10.0.0.7:4711, 127.0.0.1"])
def test_nobody_can_claim_the_connection_of_another(forwarded: bytes) -> None:
    header = (b"x-forwarded-for", forwarded)
    claimed = {owner(("127.0.0.1", 4711), SERVER, header) for _ in range(10)}
    assert len(claimed) == 10 and owner(("127.0.0.1", 4711)) not in claimed


def test_a_key_is_an_owner_by_a_hash_of_its_digest() -> None:
    renewed = Key("web", digest_of("another"), LIMITS)
    renamed = Key("app", digest_of("k"), LIMITS)
    assert KEY.owner == renamed.owner != renewed.owner
    assert KEY.owner not in KEY.digest and len(KEY.owner) == 16


def caller(limits: CountedHere | None = None) -> Caller:
    leases = Leases(limits or CountedHere(30), renew_s=1, patience_s=0.05)
    return Caller(KEY, KEY.owner, leases)


async def test_the_pictures_of_a_key_are_counted_until_they_are_given_back() -> None:
    web = caller()
    give_back = [await web.take_pictures(count) for count in (1, 3)]
    with pytest.raises(RateLimited, match="4 pictures in progress"):
        await web.take_pictures(1)
    give_back[1]()
    await asyncio.sleep(0.001)
    await web.take_pictures(3)
    with pytest.raises(RateLimited):
        await web.take_pictures(1)


async def test_what_a_key_may_never_have_is_not_told_to_come_back() -> None:
    with pytest.raises(Forbidden, match="at most 4 at once"):
        await caller().take_pictures(5)


async def test_where_nobody_counts_no_picture_begins() -> None:
    class Silent(CountedHere):
        async def enter(self, *_: Any) -> RateLimited | None:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(AccessUnavailable):
        await caller(Silent(30)).take_pictures(1)


async def test_without_a_key_nothing_is_counted() -> None:
    for _ in range(100):
        (await NOBODY.take_pictures(4))()


def guarded(max_pictures: int = 8) -> Server:
    ring = KeyRing((KEY,), b"a secret that is long enough for a token")
    due = KeysDue(lambda: ring, CountedHere(30), renew_s=1, patience_s=1)
    return Server(max_pictures=max_pictures, access=AccessOptions(("*",), ("*",), due))


def asked(server: Server, **fields: Any) -> Exchange:
    headers = {"content-type": "application/json", "authorization": "Key k"}
    return Exchange(server.app, "/stream", json.dumps(INPUT | fields).encode(), headers=headers)


@pytest.mark.parametrize("path", ["/", "/stream", "/glimpse/miniature", "/v1/images/generations"])
async def test_a_key_may_not_have_more_pictures_than_its_limit_at_any_door(path: str) -> None:
    server = guarded()
    go_on = server.stages.denoiser.hold(1)
    first = asked(server, num_images=3)
    await until(lambda: server.stages.denoiser.open == 3)
    body = {"prompt": "a lighthouse"}
    body |= {"n": 2} if path.startswith("/v1") else {"num_images": 2}  # type: ignore[dict-item]
    headers = {"authorization": "Key k"}
    answer = await server.ask("POST", path, json=body, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert "may have 4 pictures in progress" in answer.text
    assert server.meter.of("refused") == ["rate_limited"]
    go_on.set()
    await first.ended()
    await asyncio.sleep(0.001)
    assert (await server.ask("POST", path, json=body, headers=headers)).status_code == 200


async def test_a_request_that_finds_no_place_leaves_nothing_counted() -> None:
    server = guarded(max_pictures=2)
    server.stages.denoiser.hold(1)
    first = asked(server, num_images=2)
    await until(lambda: server.stages.denoiser.open == 2)
    headers = {"authorization": "Key k"}
    for _ in range(4):
        answer = await server.ask("POST", "/", json=INPUT, headers=headers)
        assert answer.json()["error_type"] == "overloaded"
    first.leave()
    await first.ended()


async def test_what_the_stages_are_told_is_the_owner_and_never_the_key() -> None:
    server = guarded()
    answer = await asked(server).ended()
    assert answer.status == 200
    headers = {"authorization": "Key k", "host": "test"}
    async with Socket(server.app, "/realtime", headers=headers) as session:
        session.send({"prompt": "a lighthouse"})
        assert (await session.receive())["type"] == "final"
    assert [options.owner for options in server.stages.denoiser.options] == [KEY.owner] * 2


async def test_without_keys_the_stages_are_told_of_the_connection() -> None:
    server = Server()
    await server.open("/stream").ended()
    async with Socket(server.app, "/realtime") as session:
        session.send({"prompt": "a lighthouse"})
        await session.receive()
    expected = [
        owner(("127.0.0.1", 1), ("test", 80)),
        owner(("127.0.0.1", 1), ("127.0.0.1", 80)),
    ]
    assert [options.owner for options in server.stages.denoiser.options] == expected


def edit() -> tuple[bytes, dict[str, str]]:
    """A form with a picture that has fully transparent pixels, which are looked for."""
    out = io.BytesIO()
    Image.new("RGBA", (8, 8)).save(out, "PNG")
    form = httpx.Request(
        "POST",
        "http://test",
        data={"prompt": "p", "model": "dall-e-2"},
        files={"image": out.getvalue()},
    )
    return form.read(), {"content-type": form.headers["content-type"]}


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        *(
            (path, json.dumps(fields).encode(), JSON)
            for path, fields in (
                ("/", INPUT),
                ("/stream", INPUT),
                ("/v1/images/generations", {"prompt": "p"}),
                ("/v1/images/generations", {"prompt": "p", "stream": True}),
            )
        ),
        ("/v1/images/edits", *edit()),
    ],
    ids=["picture", "stream", "openai", "openai stream", "openai edit"],
)
async def test_a_client_that_leaves_while_it_waits_leaves_the_queue_at_any_door(
    path: str, body: bytes, headers: dict[str, str]
) -> None:
    server = Server(max_pictures=1, place_wait_s=60)
    server.stages.denoiser.hold(1)
    first = server.open("/stream")
    await until(lambda: server.stages.denoiser.open == 1)
    waiting = Exchange(server.app, path, body, headers=headers, port=2)
    await until(lambda: len(server.service._pictures._queue) == 1)
    waiting.leave()
    await waiting.ended()
    assert not server.service._pictures._queue
    first.leave()
    await first.ended()
