"""`glimpse.http.front`: what a client cannot say to the server that routes."""

import json
import re

import pytest
from starlette.types import Message, Receive, Scope, Send

from glimpse.http.front import Front

RESERVED = ("x-request-timeout-seconds", "serve_multiplexed_model_id", "x-serve-router-*")


class Behind:
    """The application, which keeps the scope that it is given."""

    def __init__(self, **scope: object) -> None:
        self.scope: Scope = {}
        self.sent: list[Message] = []
        self._given = {"type": "http", "method": "GET", "path": "/", "root_path": "", **scope}

    async def ask(self, *headers: tuple[bytes, bytes]) -> "Behind":
        front = Front(self._app, reserved=RESERVED, hidden=["/-/routes"])
        await front({**self._given, "headers": list(headers)}, self._receive, self._send)
        return self

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [header for header in self.scope["headers"] if header[0] != b"x-request-id"]

    @property
    def request_ids(self) -> list[bytes]:
        return [value for name, value in self.scope["headers"] if name == b"x-request-id"]

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope

    async def _receive(self) -> Message:
        raise AssertionError

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "given",
    [
        [],
        [b""],
        [b"a" * 65],
        [b"a" * 60_000],
        [b"a b"],
        [b"a\tERROR forged"],
        [b"\xff"],
        ["é".encode()],
        [b"a/b"],
        [b"a", b"a"],
        [b"a", b"b\n"],
    ],
)
async def test_an_id_that_could_not_go_into_a_log_line_is_replaced(
    kind: str, given: list[bytes]
) -> None:
    behind = await Behind(type=kind).ask(*((b"x-request-id", value) for value in given))
    [request_id] = behind.request_ids
    assert re.fullmatch(b"[0-9a-f]{32}", request_id)


@pytest.mark.parametrize("given", [b"a", b"A-b_c.9", b"0" * 64])
async def test_an_id_that_can_is_kept(given: bytes) -> None:
    assert (await Behind().ask((b"x-request-id", given))).request_ids == [given]


@pytest.mark.parametrize(
    "name",
    [
        b"x-request-timeout-seconds",
        b"X-Request-Timeout-Seconds",
        b"x_request_timeout_seconds",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        b"x-serve-router-target",
        b"x-serve-router-",
    ],
)
@pytest.mark.parametrize("value", [b"1", b"\xff\xfe", b""])
async def test_headers_that_are_reserved_do_not_come_through(name: bytes, value: bytes) -> None:
    other = (b"x-serve", b"kept")
    assert (await Behind().ask((name, value), other)).headers == [other]


async def test_all_others_do_in_their_order() -> None:
    headers = ((b"b", b"\xff"), (b"a", b"1"), (b"b", b"2"), (b"traceparent", b"00-1-2-01"))
    assert (await Behind().ask(*headers)).headers == list(headers)


async def test_a_trace_that_is_no_text_is_left_out() -> None:
    assert (await Behind().ask((b"traceparent", b"\xff"), (b"tracestate", b"\xff"))).headers == []


@pytest.mark.parametrize("root", ["", "/glimpse"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_a_hidden_path_is_a_404(root: str, method: str) -> None:
    behind = await Behind(path=f"{root}/-/routes", root_path=root, method=method).ask()
    assert behind.scope == {}
    start, body = behind.sent
    assert start["status"] == 404
    assert re.fullmatch(b"[0-9a-f]{32}", dict(start["headers"])[b"x-fal-request-id"])
    assert json.loads(body["body"])["error_type"] == "not_found"


async def test_a_websocket_to_a_hidden_path_is_refused() -> None:
    behind = await Behind(type="websocket", path="/-/routes").ask()
    assert [message["type"] for message in behind.sent] == ["websocket.close"]
    assert behind.scope == {}


@pytest.mark.parametrize("path", ["/-/healthz", "/", "/-/routes/", "/routes"])
async def test_other_paths_come_through(path: str) -> None:
    behind = await Behind(path=path).ask()
    assert behind.scope["path"] == path and behind.sent == []


async def test_options_of_the_whole_server_are_told_here() -> None:
    behind = await Behind(path="/*", method="OPTIONS").ask()
    assert behind.sent[0]["status"] == 204
    assert dict(behind.sent[0]["headers"])[b"allow"] == b"GET, HEAD, POST, OPTIONS"
    assert (await Behind(path="/*", method="GET").ask()).scope["path"] == "/*"


async def test_what_is_no_request_comes_through() -> None:
    assert (await Behind(type="lifespan").ask()).scope["type"] == "lifespan"
