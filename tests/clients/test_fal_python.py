"""fal's own Python client, unmodified: every call that this server answers, sync and async."""

import json
import re
from typing import Any

import fal_client
import httpx_sse
import msgpack
import pytest
from fal_client.client import RealtimeError
from websockets.exceptions import ConnectionClosed

from config.settings import RealtimeSettings
from tests.clients.pictures import data_of, decoded, off, pixels, png
from tests.integration.application import Application
from tests.integration.test_leaving import wait_until_quiet

APP = "glimpse/miniature"
INPUT: dict[str, Any] = {
    "prompt": "a red lighthouse by the sea at sunset",
    "num_inference_steps": 12,
    "seed": 7,
    "request_id": "wire-1",
}
QUICK: dict[str, Any] = {"prompt": "a windmill on green hills", "num_inference_steps": 2}


def check_final(result: dict[str, Any]) -> None:
    assert (result["type"], result["step"], result["steps"]) == ("final", 12, 12)
    assert (result["seed"], result["request_id"]) == (7, "wire-1")
    assert result["images"] == [result["image"]]
    assert set(result["timings"]) == {"queue", "text_encode", "denoise", "decode", "total"}
    assert decoded(result["image"]).size == (128, 128)


def check_events(events: list[dict[str, Any]]) -> None:
    """Previews that come ever nearer to the final picture behind them."""
    *previews, final = events
    assert [(e["type"], e["step"]) for e in previews] == [("preview", s) for s in (1, 5, 10)]
    check_final(final)
    far = [abs(pixels(e["image"]) - pixels(final["image"])).mean() for e in previews]
    assert far == sorted(far, reverse=True)


def received(connection: Any) -> dict[str, Any]:
    result: dict[str, Any] | None = connection.recv()
    assert result is not None, "the server has closed the connection"
    return result


class TestRun:
    def test_a_picture(self, client: fal_client.SyncClient) -> None:
        check_final(client.run(APP, INPUT))

    async def test_a_picture_async(self, async_client: fal_client.AsyncClient) -> None:
        check_final(await async_client.run(APP, INPUT))

    def test_the_client_says_why_an_input_is_refused(self, client: fal_client.SyncClient) -> None:
        with pytest.raises(fal_client.FalClientHTTPError, match="did you mean seed") as refused:
            client.run(APP, {"prompt": "x", "sead": 1})
        assert (refused.value.status_code, refused.value.error_type) == (422, "invalid_request")

    def test_an_unknown_app(self, client: fal_client.SyncClient) -> None:
        with pytest.raises(fal_client.FalClientHTTPError, match=APP) as refused:
            client.run("glimpse/other", INPUT)
        assert refused.value.status_code == 404

    def test_a_picture_to_start_from(self, client: fal_client.SyncClient) -> None:
        """As a data URI, which the client makes of a file."""
        orange = fal_client.encode(png((250, 120, 30)), "image/png")
        result: Any = client.run(APP, {**INPUT, "image_url": orange, "strength": 0.5})
        assert result["steps"] == 6
        red, _, blue = pixels(result["image"]).mean((0, 1))
        assert red > blue + 60  # still as orange as what it was drawn from


class TestStream:
    def test_previews_then_the_picture(self, client: fal_client.SyncClient) -> None:
        check_events(list(client.stream(APP, INPUT)))

    async def test_previews_then_the_picture_async(
        self, async_client: fal_client.AsyncClient
    ) -> None:
        check_events([event async for event in async_client.stream(APP, INPUT)])

    def test_a_refused_input_is_an_error_of_its_sse_library(
        self, client: fal_client.SyncClient
    ) -> None:
        """It looks at the kind of the answer, never at its status: all we can do is raise."""
        with pytest.raises(httpx_sse.SSEError, match="application/json"):
            list(client.stream(APP, {"prompt": "x", "sead": 1}))

    def test_leaving_it_stops_the_work(
        self, client: fal_client.SyncClient, application: Application
    ) -> None:
        before = wait_until_quiet(application)
        events: Any = client.stream(APP, {**INPUT, "num_inference_steps": 100})  # a generator
        assert next(events)["type"] == "preview"
        events.close()
        assert wait_until_quiet(application) - before < 100


class TestRealtime:
    def test_results_come_in_order_with_their_ids(self, client: fal_client.SyncClient) -> None:
        with client.realtime(APP, use_jwt=False) as connection:
            for seed in (5, 3, 4):
                connection.send({**QUICK, "seed": seed, "request_id": f"r{seed}"})
            results = [received(connection) for _ in range(3)]
        assert [(r["type"], r["seed"], r["request_id"]) for r in results] == [
            ("final", seed, f"r{seed}") for seed in (5, 3, 4)
        ]
        assert {r["dropped"] for r in results} == {0}
        assert all(isinstance(r["image"]["content"], bytes) for r in results)
        assert {decoded(r["image"]).size for r in results} == {(128, 128)}
        assert off(results[0]["image"], results[1]["image"]) > 50

    async def test_results_come_in_order_with_their_ids_async(
        self, async_client: fal_client.AsyncClient
    ) -> None:
        async with async_client.realtime(APP, use_jwt=False, max_buffering=2) as connection:
            for seed in (5, 3):
                await connection.send({**QUICK, "seed": seed, "request_id": f"r{seed}"})
            results = [await connection.recv() for _ in range(2)]
        for result, seed in zip(results, (5, 3), strict=True):
            assert result is not None
            assert (result["type"], result["request_id"]) == ("final", f"r{seed}")
            assert decoded(result["image"]).size == (128, 128)

    def test_with_the_token_that_it_asks_for_by_itself(self, client: fal_client.SyncClient) -> None:
        with client.realtime(APP) as connection:
            connection.send(QUICK)
            assert received(connection)["type"] == "final"

    async def test_with_the_token_that_it_asks_for_by_itself_async(
        self, async_client: fal_client.AsyncClient
    ) -> None:
        async with async_client.realtime(APP) as connection:
            await connection.send(QUICK)
            result = await connection.recv()
            assert result is not None and result["type"] == "final"

    def test_few_steps_unless_asked_and_a_field_keeps_its_value(
        self, client: fal_client.SyncClient
    ) -> None:
        with client.realtime(APP, use_jwt=False) as connection:
            connection.send({"prompt": "hills", "seed": 3})
            assert received(connection)["steps"] == RealtimeSettings().num_inference_steps
            connection.send({"num_inference_steps": 2})
            result = received(connection)
        assert (result["steps"], result["seed"]) == (2, 3)

    def test_previews_on_wish(self, client: fal_client.SyncClient) -> None:
        with client.realtime(APP, use_jwt=False) as connection:
            connection.send({**INPUT, "stream_previews": True, "image_encoding": "data_uri"})
            check_events([received(connection) for _ in range(4)])

    def test_in_full_quality_it_is_the_picture_of_run(self, client: fal_client.SyncClient) -> None:
        wanted = {**INPUT, "output_format": "png"}
        with client.realtime(APP, use_jwt=False) as connection:
            connection.send({**wanted, "full_quality": True})
            result = received(connection)
        assert off(result["image"], client.run(APP, wanted)["image"]) <= 1

    def test_a_picture_in_is_a_picture_out(self, client: fal_client.SyncClient) -> None:
        with client.realtime(APP, use_jwt=False) as connection:
            orange = png((250, 120, 30))
            connection.send({**QUICK, "num_inference_steps": 4, "image": orange, "strength": 0.5})
            result = received(connection)
        assert result["steps"] == 2
        red, _, blue = pixels(result["image"]).mean((0, 1))
        assert red > blue + 60  # still as orange as what it was drawn from

    def test_the_session_goes_on_after_an_error(self, client: fal_client.SyncClient) -> None:
        with client.realtime(APP, use_jwt=False) as connection:
            connection.send({**QUICK, "sead": 1, "request_id": "r1"})
            with pytest.raises(RealtimeError, match="did you mean seed") as refused:
                connection.recv()
            assert refused.value.error == "INVALID_REQUEST"
            assert refused.value.payload["request_id"] == "r1"
            connection.send({**QUICK, "request_id": "r2"})
            assert received(connection)["request_id"] == "r2"

    def test_the_session_goes_on_after_what_is_no_message(
        self, client: fal_client.SyncClient
    ) -> None:
        def encode(message: Any) -> bytes:
            packed: bytes = msgpack.packb(message)
            return packed if message else b"\xc1"

        with client.realtime(APP, use_jwt=False, encode_message=encode) as connection:
            connection.send({})
            with pytest.raises(RealtimeError, match="INVALID_MESSAGE"):
                connection.recv()
            connection.send(QUICK)
            assert received(connection)["type"] == "final"

    async def test_the_session_goes_on_after_an_error_async(
        self, async_client: fal_client.AsyncClient
    ) -> None:
        async with async_client.realtime(APP, use_jwt=False) as connection:
            await connection.send({"prompt": ""})
            with pytest.raises(RealtimeError, match="prompt"):
                await connection.recv()
            await connection.send(QUICK)
            result = await connection.recv()
            assert result is not None and result["type"] == "final"

    def test_with_a_buffer_of_one_the_newest_wins(self, client: fal_client.SyncClient) -> None:
        ids = [f"r{number:02}" for number in range(20)]
        with client.realtime(APP, use_jwt=False, max_buffering=1) as connection:
            for request_id in ids:
                connection.send({**QUICK, "request_id": request_id})
            results = [received(connection)]
            while results[-1]["request_id"] != ids[-1]:
                results.append(received(connection))
        answered = [result["request_id"] for result in results]
        assert answered == sorted(set(answered))
        dropped = sum(result["dropped"] for result in results)
        assert dropped > 0 and len(results) + dropped == len(ids)

    def test_a_buffer_that_nobody_may_have_ends_the_session(
        self, client: fal_client.SyncClient
    ) -> None:
        """The client refuses it by itself, so this is what others would see of it."""
        with client.ws_connect(APP, use_jwt=False, path="/realtime?max_buffering=61") as socket:
            assert json.loads(socket.recv())["error"] == "INVALID_REQUEST"
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008

    def test_closing_it_stops_the_work(
        self, client: fal_client.SyncClient, application: Application
    ) -> None:
        before = wait_until_quiet(application)
        with client.realtime(APP, use_jwt=False) as connection:
            connection.send({**INPUT, "num_inference_steps": 100, "stream_previews": True})
            assert received(connection)["type"] == "preview"
        assert wait_until_quiet(application) - before < 100

    def test_closing_it_makes_room_for_another(self, client: fal_client.SyncClient) -> None:
        for _ in range(RealtimeSettings().max_sessions):
            with client.realtime(APP, use_jwt=False):
                pass
        with client.realtime(APP, use_jwt=False) as connection:
            connection.send(QUICK)
            assert received(connection)["type"] == "final"


class TestWsConnect:
    def test_json_text_in_and_out(self, client: fal_client.SyncClient) -> None:
        with client.ws_connect(APP, use_jwt=False, path="/ws") as socket:
            socket.send(json.dumps({**INPUT, "stream_previews": True}))
            check_events([json.loads(socket.recv()) for _ in range(4)])

    def test_pictures_as_frames_of_their_own(self, client: fal_client.SyncClient) -> None:
        with client.ws_connect(APP, use_jwt=False, path="/ws?binary=1") as socket:
            socket.send(json.dumps({**QUICK, "num_images": 2}))
            result = json.loads(socket.recv())
            pictures = [socket.recv() for _ in range(2)]
        assert result["type"] == "final"
        for image, content in zip(result["images"], pictures, strict=True):
            assert decoded({**image, "content": content}).size == (128, 128)
        assert pictures[0] != pictures[1]

    def test_the_session_goes_on_after_an_error(self, client: fal_client.SyncClient) -> None:
        with client.ws_connect(APP, use_jwt=False, path="/ws") as socket:
            for nonsense in ("{", b"{}", '{"prompt": 7}'):
                socket.send(nonsense)
                assert json.loads(socket.recv())["type"] == "x-fal-error"
            socket.send(json.dumps(QUICK))
            assert json.loads(socket.recv())["type"] == "final"

    async def test_json_text_in_and_out_async(self, async_client: fal_client.AsyncClient) -> None:
        async with async_client.ws_connect(APP, use_jwt=False, path="/ws") as socket:
            await socket.send(json.dumps({**QUICK, "seed": 3}))
            result = json.loads(await socket.recv())
        assert (result["type"], result["seed"]) == ("final", 3)
        assert re.match(rb"\xff\xd8\xff", data_of(result["image"]))
        assert decoded(result["image"]).size == (128, 128)
