"""`glimpse.http.origins`: names that are not ours, pages that are not, and what browsers ask."""

import pytest

from config.settings import LOOPBACK_NAMES, LOOPBACK_ORIGINS
from glimpse.http.access import AccessOptions
from glimpse.http.origins import pattern
from tests.unit.glimpse.http.asgi import INPUT, Server
from tests.unit.glimpse.http.test_auth import AUTHORIZED, KEY, Guarded
from tests.unit.glimpse.http.websocket import opens

PAGE = "https://pictures.example"
PREFLIGHT = {"access-control-request-method": "POST", "origin": PAGE}
# What @fal-ai/client 1.10.1 sends from a browser.
FAL_HEADERS = (
    "accept,authorization,content-type,x-fal-target-url,x-fal-request-timeout,x-fal-runner-hint,"
    "x-fal-object-lifecycle-preference,x-fal-queue-priority"
)
# What the npm package openai 6 makes Chromium ask for.
OPENAI_HEADERS = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout"
)


def local() -> Server:
    """As without keys."""
    return Server(access=AccessOptions(LOOPBACK_NAMES, LOOPBACK_ORIGINS, None))


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"]
)
async def test_our_own_names_are_answered_to(host: str) -> None:
    assert (await local().ask("POST", "/", json=INPUT, headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["rebound.example", "localhost.example:8000", "127.0.0.2", "[::1", "", "a@localhost.x"]
)
async def test_other_names_are_not_by_any_route(host: str) -> None:
    server = local()
    for method, path in (("POST", "/"), ("GET", "/"), ("GET", "/healthy"), ("OPTIONS", "/")):
        answer = await server.ask(method, path, headers={"host": host})
        assert (answer.status_code, answer.json()["error_type"]) == (421, "wrong_host")
        assert answer.headers["x-fal-request-id"]
    assert not await opens(server.app, "/door", headers={"host": host})
    assert server.stages.denoiser.jobs == []


@pytest.mark.parametrize("host", ["10.0.0.7:8000", "rebound.example", "[::1", ""])
async def test_health_is_told_by_any_name(host: str) -> None:
    """A kubelet and a load balancer send the pod's address."""
    for server in (local(), Server(access=AccessOptions(("a.example",), (), None))):
        for method in ("GET", "HEAD"):
            answer = await server.ask(method, "/health", headers={"host": host})
            assert answer.status_code == 200


@pytest.mark.parametrize("name", ["authorization", "host", "origin"])
@pytest.mark.parametrize("same", [True, False])
async def test_what_decides_who_may_come_in_comes_once(name: str, same: bool) -> None:
    value = {"authorization": f"Key {KEY}", "host": "test", "origin": "http://test"}[name]
    # httpx adds a Host of its own, which the list has, too.
    others = [] if name == "host" else [("host", "test")]
    headers = [*others, (name, value), (name, value if same else "other")]
    guarded = Guarded()
    for path in ("/", "/health", "/stream", "/nothing"):
        answer = await guarded.ask("POST", path, json=INPUT, headers=headers)
        assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")
        assert name in answer.json()["message"] and KEY not in answer.text
    assert not await opens(guarded.server.app, "/door", headers=headers)
    assert guarded.callers == [] and guarded.server.stages.denoiser.jobs == []


async def test_a_request_without_a_name_is_refused() -> None:
    assert not await opens(local().app, "/door", headers={})


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((PAGE,), PAGE, True),
        ((PAGE,), PAGE + ".evil", False),
        ((PAGE,), "https://picturesxexample", False),
        ((PAGE,), "http://pictures.example", False),
        ((PAGE,), PAGE + ":444", False),
        (("http://localhost:*",), "http://localhost", True),
        (("http://localhost:*",), "http://localhost:3000", True),
        (("http://localhost:*",), "http://localhost:3000.evil", False),
        (("*",), "null", True),
        (LOOPBACK_ORIGINS, "null", False),
        (LOOPBACK_ORIGINS, "https://[::1]:5173", True),
        (LOOPBACK_ORIGINS, "https://evil.example", False),
        ((), PAGE, False),
    ],
)
async def test_only_pages_that_are_named_come_in(
    origins: tuple[str, ...], origin: str, allowed: bool
) -> None:
    assert bool(pattern(origins).fullmatch(origin)) is allowed
    server = Server(access=AccessOptions(("*",), origins, None))
    answer = await server.ask("POST", "/", json=INPUT, headers={"origin": origin})
    assert answer.status_code == (200 if allowed else 403)
    assert ("access-control-allow-origin" in answer.headers) is allowed
    assert len(server.stages.denoiser.jobs) == allowed


async def test_the_servers_own_page_comes_in_and_who_is_no_browser() -> None:
    server = Server(access=AccessOptions(("*",), (), None))
    for headers in ({"host": "glimpse:8000", "origin": "https://glimpse:8000"}, {}):
        assert (await server.ask("POST", "/", json=INPUT, headers=headers)).status_code == 200
    headers = {"host": "glimpse:8000", "origin": "https://glimpse"}
    assert (await server.ask("POST", "/", json=INPUT, headers=headers)).status_code == 403


async def test_a_websocket_of_another_page_is_refused_before_it_is_accepted() -> None:
    guarded = Guarded()
    server = Server(access=AccessOptions(("*",), (PAGE,), None))
    server.app.add_api_websocket_route("/door", guarded._door)
    for origin, allowed in ((PAGE, True), ("https://evil.example", False)):
        assert await opens(server.app, "/door", headers={"origin": origin}) is allowed
    assert guarded.callers == [None]


@pytest.mark.parametrize(
    "names",
    [
        FAL_HEADERS,
        OPENAI_HEADERS,
        "openai-organization,openai-project",
        "traceparent,tracestate,baggage",
        "x-requested-with",
        "cache-control,pragma",
        "range,if-none-match",
        "sentry-trace, X-Anything-At-All",
        "*",
        "",
        None,
    ],
)
async def test_a_page_of_an_allowed_origin_may_send_any_header(names: str | None) -> None:
    guarded = Guarded()
    asked = PREFLIGHT if names is None else {**PREFLIGHT, "access-control-request-headers": names}
    for path in ("/stream", "/api/fal/proxy", "/tokens/", "/v1/images/edits", "/nothing"):
        answer = await guarded.ask("OPTIONS", path, headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers.get("access-control-allow-headers", None) == names
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_page_of_an_allowed_origin_may_use_any_method(method: str) -> None:
    headers = {**PREFLIGHT, "access-control-request-method": method}
    answer = await Guarded().ask("OPTIONS", "/stream", headers=headers)
    assert answer.status_code == 200
    assert method in answer.headers["access-control-allow-methods"].split(", ")


async def test_a_preflight_of_a_private_network_is_granted() -> None:
    """Chromium asks before a page of the internet may reach a server of the local network."""
    asked = {**PREFLIGHT, "access-control-request-private-network": "true"}
    answer = await Guarded().ask("OPTIONS", "/stream", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-private-network"] == "true"
    answer = await Guarded().ask("OPTIONS", "/stream", headers=PREFLIGHT)
    assert "access-control-allow-private-network" not in answer.headers


async def test_a_preflight_is_kept_for_as_long_as_chromium_keeps_any() -> None:
    answer = await Guarded().ask("OPTIONS", "/stream", headers=PREFLIGHT)
    assert answer.headers["access-control-max-age"] == "7200"


@pytest.mark.parametrize("headers", [{}, {"origin": PAGE}])
async def test_no_cache_gives_one_origin_the_answer_to_another(headers: dict[str, str]) -> None:
    answer = await Guarded().ask("GET", "/openapi.json", headers=headers)
    assert "Origin" in answer.headers["vary"].split(", ")
    asked = await Guarded().ask("OPTIONS", "/stream", headers={**PREFLIGHT, **headers})
    vary = asked.headers["vary"].split(", ")
    assert {"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"} <= {*vary}


async def test_a_preflight_of_another_origin_is_refused() -> None:
    server = local()
    asked = {**PREFLIGHT, "host": "localhost", "access-control-request-headers": OPENAI_HEADERS}
    answer = await server.ask("OPTIONS", "/stream", headers=asked)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("status", [200, 401, 404, 405, 422])
async def test_a_page_of_an_allowed_origin_may_read_every_header(status: int) -> None:
    method, path, fields, key = {
        200: ("POST", "/", INPUT, AUTHORIZED),
        401: ("POST", "/", INPUT, {}),
        404: ("POST", "/nothing", INPUT, AUTHORIZED),
        405: ("GET", "/stream", None, AUTHORIZED),
        422: ("POST", "/stream", {}, AUTHORIZED),
    }[status]
    answer = await Guarded().ask(method, path, json=fields, headers={**key, "origin": PAGE})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"*", "x-fal-request-id", "x-request-id", "retry-after"} <= {*exposed}


@pytest.mark.parametrize(
    ("host", "origin", "ours"),
    [
        ("glimpse.example:443", "https://glimpse.example", True),
        ("glimpse.example:80", "http://glimpse.example", True),
        ("Glimpse.Example", "https://glimpse.example", True),
        ("glimpse.example:80", "https://glimpse.example", False),
        ("glimpse.example:8000", "https://glimpse.example", False),
        ("glimpse.example", "https://glimpse.example.evil", False),
        ("glimpse.example:443", "null", False),
    ],
)
async def test_a_proxy_may_name_the_default_port_of_our_own_page(
    host: str, origin: str, ours: bool
) -> None:
    server = Server(access=AccessOptions(("*",), (), None))
    headers = {"host": host, "origin": origin}
    answer = await server.ask("POST", "/", json=INPUT, headers=headers)
    assert answer.status_code == (200 if ours else 403)


async def test_a_browser_can_read_why_it_is_refused() -> None:
    answer = await Guarded().ask("POST", "/", json=INPUT, headers={"origin": PAGE})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == PAGE
