"""`glimpse.http.body`: what is not a JSON object, or a form, of a decent size."""

import asyncio
import json

import pytest

from tests.unit.glimpse.http.asgi import INPUT, JSON, Exchange, Server
from tests.unit.glimpse.protocols.test_form import END, part

LIMIT = 1000  # of the server in asgi.py


@pytest.mark.parametrize("path", ["/", "/stream"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", 'body: is empty; send a JSON object, such as {"prompt"'),
        (b" \r\n", 'body: is empty; send a JSON object, such as {"prompt"'),
        (b"{", "is not valid JSON: there is a mistake at line 1, column 2"),
        (b"prompt=x", "is not valid JSON"),
        (b'{"prompt": "x", "seed": 1, "seed": 2}', "seed: is given more than once"),
        (b'{"prompt": "x", "guidance_scale": NaN}', "NaN and Infinity are not either"),
        (b'{"prompt": "x", "guidance_scale": -Infinity}', "NaN and Infinity are not either"),
        (b'{"seed": ' + b"9" * 900 + b"}", "seed: Input should be less than or equal to"),
        (b'\xff{"prompt": "x"}', "it is not UTF-8"),
        (b"null", "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b'"prompt"', "must be a JSON object"),
    ],
)
async def test_a_body_that_makes_no_sense_is_a_422(path: str, body: bytes, message: str) -> None:
    answer = await Server().ask("POST", path, content=body, headers=JSON)
    assert answer.status_code == 422
    assert message in answer.json()["message"]
    assert answer.json()["error_type"] == "invalid_request"


async def test_an_abyss_of_brackets_is_no_json_either() -> None:
    answer = await asyncio.to_thread(  # that runs out of stack, which CPython 3.11 does not forget
        asyncio.run, Server().ask("POST", "/", content=b"[" * LIMIT, headers=JSON)
    )
    assert answer.status_code == 422
    assert "is nested too deeply" in answer.json()["message"]


async def test_a_body_full_of_nothing_is_not_unfolded() -> None:
    """Each empty object is 64 bytes in memory for 3 on the wire."""
    body = b'{"prompt": "x", "sync_mode": [' + b"{}," * 6_000 + b"{}]}"
    answer = await Server(max_body_bytes=2**20).ask("POST", "/", content=body, headers=JSON)
    assert answer.status_code == 422
    assert "too many values" in answer.json()["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_kinds_of_bodies_are_a_415(kind: str) -> None:
    answer = await Server().ask(
        "POST", "/stream", content=json.dumps(INPUT), headers={"content-type": kind}
    )
    assert answer.status_code == 415
    assert answer.json()["error_type"] == "unsupported_media_type"
    assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"]
)
async def test_json_by_any_of_its_names_is_read(kind: str) -> None:
    answer = await Server().ask(
        "POST", "/", content=json.dumps(INPUT), headers={"content-type": kind}
    )
    assert answer.status_code == 200


async def test_an_announced_body_that_is_too_large_is_not_read_at_all() -> None:
    chunk = b" " * (LIMIT + 1)
    exchange = Exchange(
        Server().app, "/stream", chunk, headers=JSON | {"content-length": str(len(chunk))}
    )
    await exchange.ended()
    assert exchange.status == 413
    assert json.loads(exchange.body)["error_type"] == "body_too_large"
    assert exchange.chunks == [chunk]


async def test_a_body_in_chunks_is_read_no_further_than_the_limit() -> None:
    chunks = [b" " * (LIMIT // 2)] * 10
    exchange = Exchange(Server().app, "/", *chunks, headers=JSON)
    await exchange.ended()
    assert exchange.status == 413
    assert len(exchange.chunks) == 7
    assert exchange.complete


async def test_a_body_of_just_the_limit_is_read_in_any_number_of_chunks() -> None:
    body = json.dumps(INPUT).encode().ljust(LIMIT)
    headers = JSON | {"content-length": str(LIMIT)}
    for chunks in ([body], [body[i : i + 1] for i in range(LIMIT)]):
        exchange = await Exchange(Server().app, "/", *chunks, headers=headers).ended()
        assert exchange.status == 200


@pytest.mark.parametrize("announced", ["9" * 400, "-1", "many", ""])
async def test_a_senseless_content_length_breaks_nothing(announced: str) -> None:
    body = json.dumps(INPUT).encode()
    exchange = Exchange(Server().app, "/", body, headers=JSON | {"content-length": announced})
    assert (await exchange.ended()).status == (413 if announced.isdecimal() else 200)


EDITS = "/v1/images/edits"
FORM = {"content-type": "multipart/form-data; boundary=b"}
CURLS = {"content-type": "application/x-www-form-urlencoded"}  # with -d ""
EVERY_BODY = ["/", "/stream", "/glimpse/other/stream", "/v1/images/generations", EDITS, "/tokens/"]


@pytest.mark.parametrize("path", EVERY_BODY)
@pytest.mark.parametrize("kind", [{}, JSON, FORM, CURLS])
async def test_a_body_that_is_empty_is_called_so(path: str, kind: dict[str, str]) -> None:
    answer = await Server().ask("POST", path, headers={**kind, "content-length": "0"})
    assert answer.status_code == (400 if path.startswith("/v1") else 422)
    assert "body: is empty; send a" in answer.text


@pytest.mark.parametrize("path", EVERY_BODY)
async def test_a_body_in_chunks_that_is_empty_is_called_so(path: str) -> None:
    headers = {**(FORM if path == EDITS else JSON), "transfer-encoding": "chunked"}
    exchange = await Exchange(Server().app, path, b"", headers=headers).ended()
    assert exchange.status in (400, 422) and b"body: is empty" in exchange.body


@pytest.mark.parametrize("path", EVERY_BODY)
@pytest.mark.parametrize(
    "encoding", ["gzip", "GZip", "br", "deflate", "zstd", "aws-chunked", "identity, gzip", "utf-8"]
)
async def test_a_body_that_is_encoded_is_a_415_that_says_so(path: str, encoding: str) -> None:
    body, kind = (END, FORM) if path == EDITS else (json.dumps(INPUT).encode(), JSON)
    headers = {**kind, "content-encoding": encoding}
    answer = await Server().ask("POST", path, content=body, headers=headers)
    assert answer.status_code == 415
    assert "Content-Encoding" in answer.text and "gzip" not in answer.text
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["identity", "", "Identity, identity"])
async def test_a_body_may_say_that_it_is_as_it_is(encoding: str) -> None:
    headers = {**JSON, "content-encoding": encoding}
    answer = await Server().ask("POST", "/", content=json.dumps(INPUT), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate", "chunked, GZIP"])
async def test_a_transfer_coding_that_is_not_known_is_a_501(coding: str) -> None:
    headers = {**JSON, "transfer-encoding": coding}
    exchange = await Exchange(Server().app, "/", b"\x1f\x8b", headers=headers).ended()
    assert exchange.status == 501
    assert "whole or chunked" in json.loads(exchange.body)["message"]


async def test_a_byte_order_mark_is_no_mistake() -> None:
    body = "\ufeff".encode() + json.dumps(INPUT).encode()
    assert (await Server().ask("POST", "/", content=body, headers=JSON)).status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", ""])
async def test_what_is_not_sent_as_a_form_is_a_415(kind: str) -> None:
    answer = await Server().ask("POST", EDITS, content=b"x", headers={"content-type": kind})
    assert answer.status_code == 415
    assert "multipart/form-data" in answer.json()["error"]["message"]


async def test_a_form_is_read_no_further_than_the_limit() -> None:
    chunks = [part("image", b" " * LIMIT, file=True), *[b" " * LIMIT] * 10]
    exchange = await Exchange(Server().app, EDITS, *chunks, headers=FORM).ended()
    assert exchange.status == 413
    assert len(exchange.chunks) == 10
    announced = FORM | {"content-length": str(LIMIT + 1)}
    exchange = await Exchange(Server().app, EDITS, *chunks, headers=announced).ended()
    assert exchange.status == 413
    assert len(exchange.chunks) == 11


async def test_a_form_is_read_in_any_number_of_chunks() -> None:
    body = part("prompt", "é".encode()) + part("image", b"no picture", file=True) + END
    for chunks in ([body], [body[i : i + 1] for i in range(len(body))]):
        exchange = await Exchange(Server().app, EDITS, *chunks, headers=FORM).ended()
        assert exchange.status == 400
        assert json.loads(exchange.body)["error"]["param"] == "image"  # the rest was understood
