"""`glimpse.http.fal_proxy`: what is meant for fal's hosts is answered here; nothing is fetched."""

import pytest

from tests.unit.glimpse.http.asgi import INPUT, Server
from tests.unit.glimpse.http.test_auth import AUTHORIZED, KEY, Guarded

PROXY = "/api/fal/proxy"


def to(url: str) -> dict[str, str]:
    return {"x-fal-target-url": url}


async def test_the_answer_is_that_of_our_own_route() -> None:
    server = Server()
    direct = await server.ask("POST", "/glimpse/miniature", json=INPUT)
    headers = to("https://fal.run/glimpse/miniature")
    proxied = await server.ask("POST", PROXY, json=INPUT, headers=headers)
    assert proxied.status_code == 200
    assert proxied.json()["images"] == direct.json()["images"]
    assert proxied.headers["x-fal-request-id"] == "r1"
    headers = to("https://fal.run/glimpse/miniature/stream")
    streamed = await server.ask("POST", PROXY, json=INPUT, headers=headers)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert (await server.ask("GET", PROXY, headers=to("https://fal.run/"))).status_code == 200


async def test_the_query_of_the_target_counts() -> None:
    guarded = Guarded()
    token = await guarded.token("miniature")
    target = f"https://fal.run/glimpse/miniature/stream?fal_jwt_token={token}"
    assert (await guarded.ask("POST", PROXY, json=INPUT, headers=to(target))).status_code == 200
    outside = f"{PROXY}?fal_jwt_token={token}"
    headers = to("https://fal.run/glimpse/miniature/stream")
    assert (await guarded.ask("POST", outside, json=INPUT, headers=headers)).status_code == 401


async def test_tokens_come_from_here() -> None:
    body = {"allowed_apps": ["miniature"], "token_expiration": 120}
    headers = {**AUTHORIZED, **to("https://rest.fal.ai/tokens/")}
    answer = await Guarded().ask("POST", PROXY, json=body, headers=headers)
    assert answer.status_code == 200 and answer.json().count(".") == 2


async def test_a_key_is_due_as_at_the_route_itself() -> None:
    guarded = Guarded()
    headers = to("https://fal.run/glimpse/miniature")
    assert (await guarded.ask("POST", PROXY, json=INPUT, headers=headers)).status_code == 401
    headers["authorization"] = f"Key {KEY}"
    assert (await guarded.ask("POST", PROXY, json=INPUT, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "",
        "fal.run/glimpse/miniature",
        "http://fal.run/glimpse/miniature",
        "https://fal.run.evil.example/glimpse/miniature",
        "https://evil.example/glimpse/miniature",
        "https://user@fal.run/glimpse/miniature",
        "https://fal.run:8443/glimpse/miniature",
        "https://169.254.169.254/latest/meta-data",
        "https://[fal.run/",
        "file:///etc/passwd",
    ],
)
async def test_other_targets_are_refused_and_not_repeated(url: str) -> None:
    server = Server()
    answer = await server.ask("POST", PROXY, json=INPUT, headers=to(url))
    assert answer.status_code == 422
    assert "x-fal-target-url" in answer.json()["message"]
    assert "evil" not in answer.text and "169" not in answer.text
    assert server.stages.denoiser.jobs == []


async def test_a_missing_target_and_one_that_is_not_there() -> None:
    server = Server()
    assert (await server.ask("POST", PROXY, json=INPUT)).status_code == 422
    for target in ("https://fal.run/nobody/nothing", "https://rest.fal.ai/storage/upload/initiate"):
        assert (await server.ask("POST", PROXY, json=INPUT, headers=to(target))).status_code == 404
    again = to("https://fal.run/api/fal/proxy")
    assert (await server.ask("POST", PROXY, json=INPUT, headers=again)).status_code == 404
