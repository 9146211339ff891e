"""`glimpse.http.head`: HEAD wherever GET is."""

import pytest
from fastapi.routing import iter_route_contexts

from glimpse.http.access import AccessOptions
from tests.unit.glimpse.http.asgi import Server
from tests.unit.glimpse.http.test_auth import AUTHORIZED, Guarded


def every_path() -> set[str]:
    """Of a route that answers GET, however it is nested."""
    routes = iter_route_contexts(Server().app.routes)
    found = {str(route.path) for route in routes if "GET" in (route.methods or ())}
    return {path.format(owner="glimpse", alias="miniature") for path in found}


async def test_there_is_a_head_for_every_get() -> None:
    assert {"/", "/health", "/v1/models", "/glimpse/miniature", "/openapi.json"} <= every_path()
    for path in every_path():
        head, get = [await Server().ask(method, path) for method in ("HEAD", "GET")]
        assert (head.status_code, head.content) == (get.status_code, b""), path
        for name in ("content-type", "content-length", "cache-control"):
            assert head.headers.get(name) == get.headers.get(name), path


@pytest.mark.parametrize(
    ("path", "status"), [("/nothing", 404), ("/stream", 405), ("/nobody/nothing", 404)]
)
async def test_where_there_is_no_get_there_is_no_head(path: str, status: int) -> None:
    answer = await Server().ask("HEAD", path)
    assert (answer.status_code, answer.content) == (status, b"")


async def test_a_key_is_due_for_it_where_one_is_due_for_get() -> None:
    assert (await Guarded().ask("HEAD", "/v1/models")).status_code == 401
    assert (await Guarded().ask("HEAD", "/v1/models", headers=AUTHORIZED)).status_code == 200
    for path in ("/", "/health", "/docs", "/glimpse/miniature"):
        assert (await Guarded().ask("HEAD", path)).status_code == 200


async def test_a_refusal_has_no_body_either() -> None:
    server = Server(access=AccessOptions(("a.example",), (), None))
    answer = await server.ask("HEAD", "/")
    assert (answer.status_code, answer.content) == (421, b"")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/health", "GET, HEAD"),
        ("/stream", "POST"),
        ("/", "GET, HEAD, POST"),
        ("/glimpse/miniature", "GET, HEAD, POST"),
        ("/v1/models", "GET, HEAD"),
        ("/docs/static/swagger-ui.css", "GET, HEAD"),
    ],
)
async def test_which_methods_there_are_is_told(path: str, allowed: str) -> None:
    server = Server()
    answer = await server.ask("PATCH", path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert f"use {allowed}." in answer.text
    answer = await server.ask("OPTIONS", path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    assert server.meter.of("refused") == ["method_not_allowed"]


@pytest.mark.parametrize(
    "headers",
    [
        {"range": "bytes=0-3"},
        {"range": "bytes=a"},
        {"range": "items=0-3"},
        {"range": "bytes=99999999-"},
        {"range": ",".join(["bytes=0-", *["0-"] * 100])},
        {"if-range": "x", "range": "bytes=0-1"},
        {"if-none-match": "nothing we have"},
        {"if-modified-since": "yesterday"},
        {"accept": "text/plain;q=0"},
        {"accept-encoding": "identity;q=0, *;q=0"},
        {"te": "gzip;q=0, trailers"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/docs/static/swagger-ui.css"])
async def test_what_a_client_would_rather_have_is_no_mistake(
    path: str, headers: dict[str, str]
) -> None:
    server = Server()
    plain = await server.ask("GET", path)
    answer = await server.ask("GET", path, headers=headers)
    assert (answer.status_code, answer.content) == (200, plain.content)


async def test_of_what_is_not_there_no_methods_are_told() -> None:
    assert (await Server().ask("OPTIONS", "/nothing")).status_code == 404
