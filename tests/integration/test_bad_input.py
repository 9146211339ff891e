"""What is refused says what to do, and starts nothing. How soon it is: benchmarks/bad_input.py."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.application import Application

# A picture of one pixel.
PNG_URL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+k"
    "cQAAAABJRU5ErkJggg=="
)
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 2001}, "2000"),
    ({"prompt": 7}, "string"),
    ({"prompt": "x", "negative_prompt": 7}, "negative_prompt"),
    ({"prompt": "x", "num_inference_steps": 101}, "100"),
    ({"prompt": "x", "num_inference_steps": True}, "integer"),
    ({"prompt": "x", "guidance_scale": 20.5}, "20"),
    ({"prompt": "x", "seed": 2**32}, "seed"),
    ({"prompt": "x", "seed": -1}, "seed"),
    ({"prompt": "x", "image_size": "huge"}, "image_size"),
    ({"prompt": "x", "image_size": {"width": 130, "height": 128}}, "128x128"),
    ({"prompt": "x", "width": 4096}, "256x"),
    ({"prompt": "x", "num_images": 5}, "4"),
    ({"prompt": "x", "image_url": "http://localhost/x.png"}, "data URI"),
    ({"prompt": "x", "image_url": "data:image/png;base64,AAAA"}, "picture"),
    ({"prompt": "x", "mask_url": PNG_URL}, "image_url"),
    ({"prompt": "x", "image_url": PNG_URL, "mask_url": "http://localhost/x.png"}, "data URI"),
    ({"prompt": "x", "image_url": PNG_URL, "mask_url": "data:image/png;base64,AAAA"}, "mask_url"),
    ({"prompt": "x", "strength": 0.5}, "image_url"),
    ({"prompt": "x", "scheduler": "lcm", "num_inference_steps": 51}, "50"),
    ({"prompt": "x", "scheduler": "heun"}, "euler"),
    ({"prompt": "x", "preview_every": 101}, "100"),
    ({"prompt": "x", "preview_format": "gif"}, "jpeg"),
    ({"prompt": "x", "preview_quality": 0}, "preview_quality"),
    ({"prompt": "x", "preview_size": 4}, "preview_size"),
    ({"prompt": "x", "output_format": "bmp"}, "png"),
    ({"prompt": "x", "progress": "yes"}, "boolean"),
    ({"prompt": "x", "request_id": "y" * 65}, "request_id"),
    ({"prompt": "x", "num_inference_step": 4}, "did you mean num_inference_steps"),
]


@pytest.fixture(autouse=True)
def starts_nothing(application: Application) -> Any:
    before = application.steps_run()
    yield
    assert application.steps_run() == before


@pytest.mark.parametrize("path", ["/stream", "/"])
def test_every_row_of_the_input_table(application: Application, path: str) -> None:
    with httpx.Client(base_url=application.url) as client:
        client.get("/health")
        for fields, hint in REFUSED:
            answer = client.post(path, json=fields)
            assert answer.status_code == 422, fields
            body = answer.json()
            assert hint in body["message"], (fields, body)
            assert body["error_type"] == "invalid_request" and body["detail"]
            assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b'{"prompt": "x", "guidance_scale": NaN}', "application/json", 422),
        (b'{"prompt": "x", "\\ud800": 1}', "application/json", 422),
        (b'{"prompt": "\\ud800"}', "application/json", 422),
        (b'{"prompt": ', "application/json", 422),
        (b"[1]", "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b'{"prompt": "x"}', "text/plain", 415),
        (b'{"prompt": "x"}', "application/x-www-form-urlencoded", 415),
    ],
)
def test_bodies_that_are_no_input(
    application: Application, content: bytes, content_type: str, status: int
) -> None:
    answer = httpx.post(
        f"{application.url}/stream", content=content, headers={"content-type": content_type}
    )
    assert answer.status_code == status
    assert json.loads(answer.text)["message"]


def test_the_wrong_method(application: Application) -> None:
    answer = httpx.get(f"{application.url}/stream")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/nothing", "/a/b/stream", "/v1/images", "/stream/"])
def test_unknown_paths(application: Application, path: str) -> None:
    answer = httpx.post(application.url + path, json={"prompt": "x"})
    assert answer.status_code == 404


def test_a_huge_body_is_refused_before_it_is_there(application: Application) -> None:
    address = urlsplit(application.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(
            b"POST /stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        for _ in range(17):  # one more than the limit; the end never comes
            connection.sendall(chunk)
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]
