"""OpenAI's own JavaScript client, unmodified, in Node, pointed here by its `baseURL`."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clients.conftest import JAVASCRIPT, Call
from tests.clients.pictures import (
    BLUE,
    ORANGE,
    check_right_half_is_kept,
    clear_left_half,
    in_base64,
    png,
    warmth,
)


@pytest.fixture
def ask(run_client: Call, node_modules: Path) -> Call:
    return lambda name, **env: run_client("node", JAVASCRIPT / "openai.mjs", name, **env)


def picture(item: Any) -> Image.Image:
    return in_base64(item["b64_json"])


def test_generate(ask: Call) -> None:
    answer = ask("generate")
    assert (answer["size"], answer["quality"]) == ("160x104", "low")
    for item in answer["data"]:
        assert (picture(item).format, picture(item).size) == ("JPEG", (160, 104))
    assert len(answer["data"]) == 2


def test_a_stream(ask: Call) -> None:
    events = ask("stream")
    assert [event["type"] for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [picture(event).size for event in events] == [(128, 128)] * 3


@pytest.mark.parametrize("name", ["edit", "edit_of_a_list"])
def test_an_edit_starts_from_the_picture(ask: Call, name: str) -> None:
    [item] = ask(name, PICTURE=png(ORANGE))["data"]
    assert warmth(picture(item)) > 40


def test_an_edit_with_a_mask_leaves_the_rest_alone(ask: Call) -> None:
    partial, completed = ask("edit_with_mask", PICTURE=png(BLUE), MASK=clear_left_half())
    assert partial["type"] == "image_edit.partial_image"
    assert completed["type"] == "image_edit.completed"
    check_right_half_is_kept(picture(completed), BLUE)


def test_models(ask: Call) -> None:
    assert ask("models") == ["glimpse/miniature"]


@pytest.mark.parametrize("name", ["refused", "refused_stream"])
def test_what_is_refused_says_why(ask: Call, name: str) -> None:
    failure = ask(name)["failure"]
    assert failure["name"] == "BadRequestError"
    assert (failure["status"], failure["param"], failure["code"]) == (400, "n", "invalid_request")


def test_an_unknown_model(ask: Call) -> None:
    failure = ask("unknown_model")["failure"]
    assert (failure["status"], failure["code"]) == (404, "model_not_found")
