"""`glimpse.http.app`: routes, names, health, and how every failure is told."""

import asyncio
import json
import re
from typing import Any

import pytest

from glimpse.errors import StageLost
from glimpse.http.access import AccessOptions
from tests.fakes import until
from tests.unit.glimpse.http.asgi import INPUT, Server
from tests.unit.glimpse.http.test_auth import AUTHORIZED, Guarded
from tests.unit.glimpse.http.websocket import Socket, opens


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/health"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/nothing"),
        ("PUT", "/stream"),
        ("POST", "/"),
        ("POST", "/nobody/nothing"),
    ],
)
async def test_every_answer_has_a_request_id_of_its_own(method: str, path: str) -> None:
    server = Server()
    answers = [await server.ask(method, path) for _ in range(2)]
    ids = {answer.headers["x-fal-request-id"] for answer in answers}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


async def test_a_request_id_that_is_given_comes_back() -> None:
    answer = await Server().ask("POST", "/", json=INPUT)
    assert answer.headers["x-fal-request-id"] == answer.json()["request_id"] == "r1"


async def test_serves_own_request_id_is_taken_over_if_it_can_be_sent_back() -> None:
    ids = []
    for incoming in ("serve-1", "no spaces"):
        fields = {"prompt": "x", "request_id": None}
        answer = await Server().ask("POST", "/", json=fields, headers={"x-request-id": incoming})
        assert answer.headers["x-fal-request-id"] == answer.json()["request_id"]
        ids.append(answer.json()["request_id"])
    assert ids[0] == "serve-1" and re.fullmatch("[0-9a-f]{32}", ids[1])


@pytest.mark.parametrize("path", ["/", "/glimpse/miniature"])
async def test_the_page_is_at_the_root_of_every_alias(path: str) -> None:
    answer = await Server().ask("GET", path)
    assert (answer.status_code, answer.text) == (200, "<p>Draw!</p>")
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/nobody/nothing", "/glimpse/nothing/stream", "/v1/nothing"])
async def test_an_unknown_alias_is_a_404_that_lists_the_known_ones(path: str) -> None:
    answer = await Server().ask("POST", path, json=INPUT)
    assert answer.status_code == 404
    assert answer.json() == {
        "detail": "No such application; this server has glimpse/miniature, glimpse/other.",
        "message": "No such application; this server has glimpse/miniature, glimpse/other.",
        "error_type": "not_found",
    }


@pytest.mark.parametrize(
    "path", ["/nothing", "/stream/", "/glimpse/miniature/", "/glimpse/miniature/stream/"]
)
async def test_what_is_not_there_is_a_404_and_a_slash_too_many_no_redirect(path: str) -> None:
    answer = await Server().ask("POST", path, json=INPUT)
    assert answer.status_code == 404
    assert answer.json()["error_type"] == "not_found"
    assert answer.json()["message"] == answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/stream", "POST"), ("PUT", "/glimpse/miniature/stream", "POST")],
)
async def test_a_wrong_method_is_a_405_that_says_the_right_one(
    method: str, path: str, allowed: str
) -> None:
    answer = await Server().ask(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.json()["error_type"] == "method_not_allowed"
    assert f"use {allowed}" in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/images/generations", "/v1/images/generations"),
        ("/images/edits", "/v1/images/edits"),
        ("/images/edits/", "/v1/images/edits"),
        ("/models/glimpse/miniature", "/v1/models"),
        ("/models/miniature", "/v1/models"),
        ("/models", "/v1/models"),
        ("/v1/v1/images/generations", "/v1/images/generations"),
        ("/glimpse/miniature/images/generations", "/v1/images/generations"),
        ("/glimpse/miniature/v1/models", "/v1/models"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_wrong_address_of_the_openai_api_is_put_right(
    method: str, path: str, leads_to: str
) -> None:
    answer = await Server().ask(method, path, json=INPUT)
    assert answer.status_code == 404
    assert f"The OpenAI images API has {leads_to}: base_url" in answer.json()["message"]


@pytest.mark.parametrize("path", ["/nothing", "/images", "/nobody/nothing", "/v1/models/"])
async def test_no_other_address_is_taken_for_one(path: str) -> None:
    assert "OpenAI" not in (await Server().ask("POST", path)).text


@pytest.mark.parametrize("path", ["/ws", "/realtime", "/glimpse/miniature/ws"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_handshake_whose_upgrade_was_lost_on_the_way_says_so(
    method: str, path: str
) -> None:
    answer = await Server().ask(method, path)
    assert answer.status_code == 404
    assert "only a WebSocket at this path" in answer.json()["message"]


@pytest.mark.parametrize("name", ["authorization", "host", "origin"])
async def test_a_websocket_whose_head_names_two_is_a_400(name: str) -> None:
    server = Server()
    pairs = [("host", "test"), (name, "a"), (name, "a")]
    async with Socket(server.app, "/realtime", headers=pairs, says_why=True) as socket:
        assert socket.opened["status"] == 400
        assert json.loads((await socket._next())["body"])["error_type"] == "bad_request"
    assert server.meter.calls == [("refused", "bad_request")]


@pytest.mark.parametrize("path", ["/nothing", "/ws/", "/glimpse/nothing/ws", "/stream", "/"])
async def test_a_websocket_to_a_wrong_path_is_a_404_where_the_server_can_say_so(path: str) -> None:
    server = Server()
    async with Socket(server.app, path, says_why=True) as socket:
        assert socket.opened["type"] == "websocket.http.response.start"
        assert socket.opened["status"] == 404
        body = await socket._next()
        assert json.loads(body["body"])["error_type"] == "not_found"
    assert server.meter.calls == [("refused", "not_found")]
    assert not await opens(server.app, path)


@pytest.mark.parametrize("path", ["/nothing", "/realtime"])
async def test_without_a_key_that_is_due_it_is_refused_like_any(path: str) -> None:
    guarded = Guarded()
    async with Socket(guarded.server.app, path, says_why=True) as socket:
        assert socket.opened["type"] == "websocket.close"
    headers = {**AUTHORIZED, "host": "test"}
    async with Socket(guarded.server.app, "/nothing", headers=headers, says_why=True) as socket:
        assert socket.opened["status"] == 404


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("GET", "/stream"), ("POST", "/nobody/nothing")]
)
async def test_no_cache_keeps_an_error(method: str, path: str) -> None:
    assert (await Server().ask(method, path)).headers["cache-control"] == "no-store"


async def test_an_error_of_the_server_tells_nothing_of_itself_but_whose_request_it_was() -> None:
    server = Server()

    def parse(*_: object, **__: object) -> Any:
        raise RuntimeError("secret")

    server.service.parse = parse  # type: ignore[method-assign]
    answer = await server.ask("POST", "/", json=INPUT, headers={"origin": "http://test"})
    assert answer.status_code == 500
    assert answer.json()["error_type"] == "internal_error"
    assert "secret" not in answer.text
    assert answer.headers["x-fal-request-id"]
    assert server.meter.of("refused") == ["internal_error"]


async def test_a_page_of_another_origin_is_told_of_an_error_of_the_server() -> None:
    page = "https://page.example"
    server = Server(access=AccessOptions(("*",), (page,), None))

    def parse(*_: object, **__: object) -> Any:
        raise RuntimeError

    server.service.parse = parse  # type: ignore[method-assign]
    answer = await server.ask("POST", "/", json=INPUT, headers={"origin": page})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, page)
    assert server.meter.of("refused") == ["internal_error"]


async def test_health_is_503_while_starting_and_200_once_every_stage_answers() -> None:
    server = Server(ready=False)
    server.stages.denoiser.silent = True
    async with server.app.router.lifespan_context(server.app):
        answer = await server.ask("GET", "/openapi.json")
        assert answer.status_code == 200
        answer = await server.ask("POST", "/", json=INPUT)
        assert answer.status_code == 503
        server.stages.denoiser.silent = False
        await until(lambda: server.service.ready)
        answer = await server.ask("GET", "/health")
        assert answer.status_code == 200
        assert answer.json() == {
            "status": "ready",
            "version": "1.2.3",
            "stages": {
                "text_encoder": True,
                "denoiser": True,
                "preview_decoder": True,
                "image_codec": True,
            },
        }


async def test_health_names_the_stage_that_is_lost() -> None:
    server = Server()
    server.stages.image_codec.unreachable = StageLost("image_decode")
    answer = await server.ask("GET", "/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    assert [name for name, answers in answer.json()["stages"].items() if not answers] == [
        "image_codec"
    ]


async def test_an_app_that_stops_while_it_starts_leaves_no_task_behind() -> None:
    server = Server(ready=False)
    server.stages.denoiser.silent = True
    async with server.app.router.lifespan_context(server.app):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_schema_has_the_input_and_all_its_references_lead_somewhere() -> None:
    schema = (await Server().ask("GET", "/openapi.json")).json()
    assert {"/", "/stream", "/{owner}/{alias}", "/{owner}/{alias}/stream"} <= set(schema["paths"])
    for path in ("/", "/stream"):
        body = schema["paths"][path]["post"]["requestBody"]
        fields = body["content"]["application/json"]["schema"]
        assert fields["required"] == ["prompt"]
        assert fields["properties"]["preview_every"]["default"] == 5
        assert fields["properties"]["num_images"]["maximum"] == 4
    for reference in re.findall(r"'\$ref': '(.*?)'", str(schema)):
        place = schema
        for key in reference.removeprefix("#/").split("/"):
            place = place[key.replace("~1", "/")]
