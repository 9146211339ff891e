"""fal's own JavaScript client, unmodified, in Node: every call that this server answers."""

import base64
from typing import Any

import httpx
import pytest

from tests.clients.conftest import Call
from tests.clients.pictures import decoded, off, pixels, png
from tests.integration.application import Application

APP = "glimpse/miniature"
INPUT = {
    "prompt": "a red lighthouse by the sea at sunset",
    "num_inference_steps": 12,
    "seed": 7,
}
WAYS = ["fetch", "proxy"]  # the client's own; through either it comes here


def of_bytes(image: dict[str, Any]) -> dict[str, Any]:
    return {**image, "content": base64.b64decode(image["content"])}


def check_events(events: list[dict[str, Any]]) -> None:
    """Previews that come ever nearer to the final picture behind them."""
    *previews, final = events
    assert [(e["type"], e["step"]) for e in previews] == [("preview", s) for s in (1, 5, 10)]
    assert (final["type"], final["step"], final["seed"]) == ("final", 12, 7)
    far = [abs(pixels(e["image"]) - pixels(final["image"])).mean() for e in previews]
    assert far == sorted(far, reverse=True)


@pytest.mark.parametrize("way", WAYS)
class TestCalls:
    def test_run_gives_the_picture_and_the_requests_id(
        self, call: Call, application: Application, way: str
    ) -> None:
        answer = call(way, "run")
        assert answer["requestId"] == answer["data"]["request_id"]
        plain = httpx.post(f"{application.url}/{APP}", json=INPUT, timeout=60).json()
        assert off(answer["data"]["image"], plain["image"]) <= 1

    def test_a_refused_input_is_a_validation_error(self, call: Call, way: str) -> None:
        failure = call(way, "refused_run")["failure"]
        assert (failure["name"], failure["status"]) == ("ValidationError", 422)
        assert "did you mean seed" in failure["message"]
        assert [error["loc"][-1] for error in failure["fieldErrors"]] == ["sead"]

    def test_an_unknown_app(self, call: Call, way: str) -> None:
        failure = call(way, "unknown_app")["failure"]
        assert (failure["name"], failure["status"]) == ("ApiError", 404)
        assert APP in failure["message"]

    def test_a_stream_by_iterating_and_by_its_end(self, call: Call, way: str) -> None:
        streamed = call(way, "stream")
        check_events(streamed["events"])
        assert streamed["done"] == streamed["events"][-1]

    def test_a_refused_stream(self, call: Call, way: str) -> None:
        failure = call(way, "refused_stream")["failure"]
        assert failure["status"] == 422
        assert "did you mean seed" in failure["message"]

    def test_a_session_goes_on_after_an_error(self, call: Call, way: str) -> None:
        """With the client's own token, which it asks for in the same way."""
        first, bad, last = call(way, "realtime")
        assert (first["result"]["type"], first["result"]["request_id"]) == ("final", "r5")
        assert "did you mean seed" in bad["failure"]["message"]
        assert bad["failure"]["body"]["request_id"] == "bad"
        # The prompt is kept from the first message, and not from the one that was refused.
        assert (last["result"]["seed"], last["result"]["steps"]) == (3, 2)
        pictures = [decoded(of_bytes(each["result"]["image"])) for each in (first, last)]
        assert [picture.size for picture in pictures] == [(128, 128)] * 2


def test_a_stream_past_the_proxy_with_a_token_of_our_own(call: Call) -> None:
    assert call("fetch", "stream_with_token")["type"] == "final"


def test_a_session_with_a_token_of_our_own(call: Call) -> None:
    [answer] = call("fetch", "realtime_with_token")
    assert answer["result"]["type"] == "final"


def test_results_come_in_order_and_closing_is_an_error_to_the_client(call: Call) -> None:
    """Of what is sent before it is connected, the client itself forgets all but the newest."""
    told = call("fetch", "realtime_at_once")
    assert [result["request_id"] for result in told["results"]] == ["r3", "r4", "r5", "r6"]
    assert [result["seed"] for result in told["results"]] == [3, 4, 5, 6]
    assert {result["dropped"] for result in told["results"]} == {0}
    assert told["goodbye"]["failure"]["status"] == 1005


def test_a_picture_in_is_a_picture_out(call: Call) -> None:
    orange = base64.b64encode(png((250, 120, 30))).decode()
    [answer] = call("fetch", "realtime_with_picture", PICTURE=orange)
    red, _, blue = pixels(of_bytes(answer["result"]["image"])).mean((0, 1))
    assert red > blue + 60  # still as orange as what it was drawn from
