"""`glimpse.http.tokens`: what fal's clients ask for and get. What a token opens: test_auth.py."""

import time
from typing import Any

import fal_client.client
import jwt
import pytest

from tests.unit.glimpse.http.asgi import Server
from tests.unit.glimpse.http.test_auth import AUTHORIZED, SECRET, Guarded


@pytest.mark.parametrize("prefix", ["", "/rest"])
async def test_both_forms_are_answered_as_fals_clients_expect(prefix: str) -> None:
    guarded = Guarded()
    # As fal-client 1.0.3 and @fal-ai/client 1.10.1 send it.
    body: dict[str, Any] = {"allowed_apps": ["miniature"], "token_expiration": 120}
    answer = await guarded.ask("POST", f"{prefix}/tokens/", json=body, headers=AUTHORIZED)
    token = fal_client.client._parse_token_response(answer.json())
    claims = jwt.decode(token, SECRET, ["HS256"])
    assert claims["apps"] == ["miniature"]
    assert 110 < claims["exp"] - time.time() <= 120
    # As fal's documentation has a backend send it.
    body = {"allowed_apps": ["glimpse/miniature/realtime"], "duration": 7}
    answer = await guarded.ask("POST", f"{prefix}/tokens/realtime", json=body, headers=AUTHORIZED)
    assert list(answer.json()) == ["token"]
    claims = jwt.decode(answer.json()["token"], SECRET, ["HS256"])
    assert claims["apps"] == ["glimpse/miniature/realtime"]
    assert claims["exp"] - time.time() <= 7


async def test_who_says_nothing_of_its_life_gets_two_minutes() -> None:
    token = await Guarded().token("glimpse/miniature")
    assert 110 < jwt.decode(token, SECRET, ["HS256"])["exp"] - time.time() <= 120


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"allowed_apps": ["miniature"], "token_expiration": 3601}, "1 to 3600"),
        ({"allowed_apps": ["miniature"], "token_expiration": 0}, "token_expiration"),
        ({"allowed_apps": ["miniature"], "token_expiration": True}, "token_expiration"),
        ({"allowed_apps": ["miniature"], "token_expiration": 1.5}, "token_expiration"),
        ({"allowed_apps": ["miniature"], "token_expiration": None}, "token_expiration"),
        ({}, "allowed_apps"),
        ({"allowed_apps": "miniature"}, "allowed_apps"),
        ({"allowed_apps": []}, "allowed_apps"),
        ({"allowed_apps": ["miniature"] * 17}, "1 to 16"),
        ({"allowed_apps": [7]}, "glimpse/miniature, glimpse/other"),
        ({"allowed_apps": ["sdxl"]}, "glimpse/miniature, glimpse/other"),
        ({"allowed_apps": ["miniature", "someone/miniature"]}, "allowed_apps"),
        ({"allowed_apps": [""]}, "allowed_apps"),
    ],
)
async def test_what_is_wrong_is_named(fields: dict[str, Any], hint: str) -> None:
    answer = await Guarded().ask("POST", "/tokens/", json=fields, headers=AUTHORIZED)
    assert answer.status_code == 422
    assert hint in answer.json()["message"]
    assert "someone" not in answer.text and "sdxl" not in answer.text


@pytest.mark.parametrize("longest", [3600, 3600.0])
async def test_an_hour_is_the_longest(longest: float) -> None:
    token = await Guarded().token("miniature", token_expiration=longest)
    expires = jwt.decode(token, SECRET, ["HS256"])["exp"]
    assert type(expires) is int and expires - time.time() > 3590


async def test_where_no_key_is_due_anybody_gets_a_token_that_opens_nothing_elsewhere() -> None:
    body = {"allowed_apps": ["miniature"]}
    tokens = [(await Server().ask("POST", "/tokens/", json=body)).json() for _ in range(2)]
    for token in tokens:
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(token, b"\0" * 32, ["HS256"])
    assert len({token.rsplit(".", 1)[1] for token in tokens}) == 2  # each server its own secret


async def test_the_schema_tells_of_tokens_once() -> None:
    paths = (await Server().ask("GET", "/openapi.json")).json()["paths"]
    assert {path for path in paths if "tokens" in path} == {"/tokens/", "/tokens/realtime"}
