"""The AI SDK with its own fal provider, unmodified, in Node: one address."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import JAVASCRIPT, Call
from tests.clients.pictures import (
    BLUE,
    ORANGE,
    check_right_half_is_kept,
    decoded,
    off,
    png,
    warmth,
    white_left_half,
)


@pytest.fixture
def ask(run_client: Call, node_modules: Path) -> Call:
    return lambda name, **env: run_client("node", JAVASCRIPT / "ai_sdk.mjs", name, **env)


def images(told: Any) -> list[dict[str, Any]]:
    """The pictures, with what the answer said of each."""
    assert told["warnings"] == []
    return [
        {
            "content": base64.b64decode(image["base64"]),
            "content_type": said["contentType"],
            "width": said["width"],
            "height": said["height"],
        }
        for image, said in zip(told["images"], told["metadata"]["images"], strict=True)
    ]


def test_every_field_that_the_provider_has(ask: Call) -> None:
    told = ask("generate")
    made = images(told)
    assert [decoded(image).format for image in made] == ["PNG", "PNG"]
    assert [(image["width"], image["height"]) for image in made] == [(160, 96)] * 2
    # The SDK asks for one picture a call, and both calls have the same seed.
    assert off(*made) < 16


def test_an_aspect_ratio(ask: Call) -> None:
    [image] = images(ask("by_aspect"))
    assert decoded(image).width > 1.6 * decoded(image).height


def test_nothing_but_a_prompt(ask: Call) -> None:
    told = ask("defaults")
    [image] = images(told)
    assert decoded(image).size == (128, 128)
    assert [each["mediaType"] for each in told["images"]] == ["image/jpeg"]


def test_an_edit_starts_from_the_picture(ask: Call) -> None:
    [image] = images(ask("edit", PICTURE=png(ORANGE)))
    assert warmth(decoded(image)) > 40


def test_an_edit_with_a_mask_leaves_the_rest_alone(ask: Call) -> None:
    [image] = images(ask("edit_with_mask", PICTURE=png(BLUE), MASK=white_left_half()))
    check_right_half_is_kept(decoded(image), BLUE)


def test_what_is_refused_says_why(ask: Call) -> None:
    failure = ask("refused")["failure"]
    assert (failure["name"], failure["statusCode"]) == ("AI_APICallError", 422)
    assert "sead" in failure["message"] and "seed" in failure["message"]
    assert ask("unknown_app")["failure"]["statusCode"] == 404
