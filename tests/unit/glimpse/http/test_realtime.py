"""`glimpse.http.realtime` and `.session`: one session over a WebSocket, on fake stages."""

import asyncio
import dataclasses
import json
import threading
from typing import Any

import msgpack
import pytest
from PIL import Image

from glimpse.errors import StageFailed, StageLost, invalid
from glimpse.failover import Failover
from glimpse.http.readers import LOOKERS
from glimpse.http.realtime import RealtimeOptions
from glimpse.ports import Priority
from tests.fakes import until
from tests.strange_pictures import encoded
from tests.unit.glimpse.http.asgi import REALTIME, Server
from tests.unit.glimpse.http.websocket import Socket
from tests.wire.sent import ORANGE, ORANGE_URL

ALIAS = "/glimpse/miniature"
PICTURE = {"image_url": ORANGE_URL}


def server(**changes: Any) -> Server:
    return Server(realtime=dataclasses.replace(REALTIME, **changes))


def realtime(server: Server, query: str = "") -> Socket:
    return Socket(server.app, "/realtime", query)


def grey_png(level: int) -> bytes:
    return encoded(Image.new("L", (8, 8), level), "PNG")


def greys(server: Server) -> list[int]:
    """Of the pictures that were encoded."""
    return [int(picture[0, 0, 0]) for picture in server.stages.preview_decoder.encoded]


async def picture_of(socket: Socket) -> str:
    """Of the next result: the fake decoder writes down what it was given."""
    result = await socket.receive()
    assert result["type"] == "final", result
    return str(result["image"]["content"], "ascii")


@pytest.mark.parametrize("path", ["/realtime", f"{ALIAS}/realtime"])
async def test_requests_on_one_connection_are_answered_in_their_order(path: str) -> None:
    async with Socket(Server().app, path) as socket:
        assert socket.opened["type"] == "websocket.accept"
        for seed in (3, 5):
            socket.send({"prompt": "p", "seed": seed, "request_id": f"r{seed}"})
        for seed in (3, 5):
            result = await socket.receive()
            assert result["image"]["content"] == f"preview {seed}".encode()
            assert result["image"]["content_type"] == "image/jpeg"
            assert (result["seed"], result["request_id"]) == (seed, f"r{seed}")
            assert (result["type"], result["step"], result["steps"]) == ("final", 2, 2)
            assert result["dropped"] == 0


async def test_a_field_left_out_keeps_its_value_and_a_request_id_never() -> None:
    one = Server()
    async with realtime(one) as socket:
        socket.send({"prompt": "p", "seed": 3, "num_inference_steps": 3, "request_id": "r1"})
        assert (await socket.receive())["steps"] == 3
        socket.send({"seed": 4})
        result = await socket.receive()
        assert (result["steps"], result["seed"]) == (3, 4)
        assert result["request_id"] != "r1"
        socket.send({"num_inference_steps": None})
        assert (await socket.receive())["steps"] == 2


async def test_it_goes_before_all_others_and_stays_with_one_replica() -> None:
    one = Server()
    async with realtime(one) as first, realtime(one) as second:
        for socket in (first, first, second):
            socket.send({"prompt": "p"})
            await socket.receive()
    assert set(one.stages.denoiser.priorities) == {Priority.REALTIME}
    a, again, other = one.stages.denoiser.sessions
    assert a == again and a != other and None not in (a, other)


async def test_a_text_and_a_picture_that_stay_are_encoded_once() -> None:
    one = Server()
    async with realtime(one) as socket:
        socket.send({"prompt": "p", "image": grey_png(1), "strength": 1.0})
        await socket.receive()
        socket.send({"seed": 4})
        await socket.receive()
        assert one.stages.text_encoder.texts == [("p", None)]
        assert greys(one) == [1]
        socket.send({"prompt": "q", "image": grey_png(2)})
        await socket.receive()
        assert one.stages.text_encoder.texts == [("p", None), ("q", None)]
        assert greys(one) == [1, 2]


@pytest.mark.parametrize("lost", [StageLost("text_encode"), StageFailed("denoise")])
async def test_what_may_be_lost_is_encoded_anew(lost: Exception) -> None:
    one = Server(failover=Failover(max_moves=1))
    async with realtime(one) as socket:
        socket.send({"prompt": "p"})
        await socket.receive()
        one.stages.denoiser.lost_once = lost
        socket.send({"seed": 4})
        answer = await socket.receive()
        if answer["type"] == "x-fal-error":
            assert answer["error"] == "STAGE_FAILED"
            socket.send({"seed": 5})
            answer = await socket.receive()
        assert answer["type"] == "final"
    assert one.stages.text_encoder.texts == [("p", None), ("p", None)]


async def test_the_full_vae_on_wish() -> None:
    one = Server()
    async with realtime(one) as socket:
        socket.send({"prompt": "p", "seed": 3, "full_quality": True, "image": ORANGE})
        assert await picture_of(socket) == "picture 3"
    assert [each.shape for each in one.stages.image_codec.encoded] == [(128, 128, 3)]


async def test_previews_on_wish() -> None:
    async with realtime(Server()) as socket:
        socket.send(
            {"prompt": "p", "stream_previews": True, "preview_every": 1, "num_inference_steps": 2}
        )
        preview, final = await socket.receive(), await socket.receive()
        assert (preview["type"], preview["step"], preview["steps"]) == ("preview", 1, 2)
        assert preview["image"]["content"] == b"preview 1"
        assert final["type"] == "final"


async def test_pictures_as_text_on_wish() -> None:
    async with realtime(Server()) as socket:
        socket.send({"prompt": "p", "image_encoding": "data_uri"})
        assert (await socket.receive())["image"]["url"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(
    ("frame", "error", "request_id"),
    [
        (b"\xc1", "INVALID_MESSAGE", None),
        ("text", "INVALID_MESSAGE", None),
        ({"prompt": 7, "request_id": "r1"}, "INVALID_REQUEST", "r1"),
        ({"prompt": "p", "request_id": "x" * 65}, "INVALID_REQUEST", None),
        ({"prompt": "p", "seed": 2**40, "request_id": 7}, "INVALID_REQUEST", None),
    ],
)
async def test_an_error_is_told_as_text_and_the_session_goes_on(
    frame: Any, error: str, request_id: str | None
) -> None:
    async with realtime(Server()) as socket:
        socket.send({"prompt": "kept", "seed": 3})
        await socket.receive()
        socket.send(frame)
        told = json.loads(await socket.receive_frame())
        assert (told["type"], told["error"]) == ("x-fal-error", error)
        assert told.get("request_id") == request_id
        assert told["reason"]
        socket.send({})  # nothing of the bad message was kept
        assert await picture_of(socket) == "preview 3"


async def test_a_stage_that_fails_is_told_and_the_session_goes_on() -> None:
    one = Server()
    one.stages.denoiser.errors[1] = StageLost("denoise")
    async with realtime(one) as socket:
        socket.send({"prompt": "p", "request_id": "r1"})
        told = await socket.receive()
        assert (told["error"], told["request_id"]) == ("STAGE_LOST", "r1")
        one.stages.denoiser.errors.clear()
        socket.send({"seed": 3})
        assert await picture_of(socket) == "preview 3"


async def test_what_waits_too_long_is_dropped_and_counted_and_its_fields_stay() -> None:
    one = Server()
    gate = one.stages.denoiser.hold(1)
    async with realtime(one, "max_buffering=2") as socket:
        socket.send({"prompt": "p", "seed": 0})
        await until(lambda: one.stages.denoiser.open == 1)
        socket.send({"seed": 1, "num_inference_steps": 1})
        for seed in (2, 3):
            socket.send({"seed": seed})
        await until(lambda: socket.taken)
        gate.set()
        results = [await socket.receive() for _ in range(3)]
    assert [result["seed"] for result in results] == [0, 2, 3]
    assert [result["steps"] for result in results] == [2, 1, 1]
    assert [result["dropped"] for result in results] == [1, 0, 0]


async def test_with_a_buffer_of_one_the_newest_wins_but_never_twice_in_a_row() -> None:
    one = Server()
    denoiser = one.stages.denoiser
    gate = denoiser.hold(1)
    async with realtime(one, "max_buffering=1") as socket:
        socket.send({"prompt": "p", "seed": 0})
        await until(lambda: len(denoiser.jobs) == 1)
        socket.send({"seed": 1})  # overtakes the first, which stops
        await until(lambda: len(denoiser.jobs) == 2)
        assert denoiser.cancelled == [denoiser.jobs[0].id]
        for seed in (2, 3):  # the second goes on to its end, and of these the newer is made
            socket.send({"seed": seed})
        await until(lambda: socket.taken)
        gate.set()
        results = [await socket.receive() for _ in range(2)]
    assert [result["seed"] for result in results] == [1, 3]
    assert sum(result["dropped"] for result in results) == 2
    assert [job.seed for job in denoiser.jobs] == [0, 1, 3]


async def test_who_leaves_stops_the_work() -> None:
    one = Server()
    one.stages.denoiser.hold(2)
    async with realtime(one) as socket:
        socket.send({"prompt": "p"})
        await until(lambda: one.stages.denoiser.steps_run == 1)
    assert one.stages.denoiser.open == 0
    assert one.stages.denoiser.steps_run == 1


async def test_a_session_has_a_place_beside_all_pictures() -> None:
    one = Server(max_pictures=1)
    one.stages.denoiser.hold(1)
    exchange = one.open("/stream")
    await until(lambda: one.stages.denoiser.open == 1)
    async with realtime(one) as socket:
        socket.send({"prompt": "p"})
        await until(lambda: one.stages.denoiser.open == 2)
    exchange.leave()
    await exchange.ended()


async def test_too_many_messages_in_a_second_are_refused_and_the_session_goes_on() -> None:
    async with realtime(server(messages_per_s=2, max_buffering=8)) as socket:
        for seed in range(3):
            socket.send({"prompt": "p", "seed": seed})
        answers = [await socket.receive() for _ in range(3)]
    assert sorted(answer["type"] for answer in answers) == ["final", "final", "x-fal-error"]
    (refused,) = (answer for answer in answers if answer["type"] == "x-fal-error")
    assert refused["error"] == "RATE_LIMITED"


async def test_a_data_uri_that_is_kept_is_read_once() -> None:
    one = server(max_buffering=8)
    gate = one.stages.denoiser.hold(1)
    async with realtime(one) as socket:
        uris = {"image_url": ORANGE_URL, "mask_url": ORANGE_URL}
        socket.send({"prompt": "p", **uris, "strength": 1.0})
        socket.send({"seed": 1})
        await until(lambda: socket.taken)
        gate.set()
        for _ in range(2):
            assert (await socket.receive())["type"] == "final"
        assert len(one.stages.preview_decoder.encoded) == 1
        socket.send({"image_url": None})  # and what is about it is cleared with it
        assert (await socket.receive())["type"] == "final"
    assert [image for _, image in one.stages.denoiser.given][-1] is None


@pytest.mark.parametrize("asked", ["1", "007", "60", "0" * 5000 + "9"])
async def test_a_buffer_of_a_size(asked: str) -> None:
    async with realtime(Server(), f"max_buffering={asked}") as socket:
        socket.send({"prompt": "p", "seed": 3})
        assert await picture_of(socket) == "preview 3"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/realtime", "max_buffering=1&max_buffering=8"),
        ("/ws", "binary=1&binary=0"),
        ("/ws", "binary=1&binary=1"),
    ],
)
async def test_a_query_that_says_a_thing_twice_is_refused(path: str, query: str) -> None:
    async with Socket(Server().app, path, query) as socket:
        told = await socket.receive()
        assert told["error"] == "INVALID_REQUEST"
        assert told["reason"].startswith(f"{query.partition('=')[0]}: is given more than once")


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (b"\x82\xa4seed\x01\xa4seed\x02", "seed"),
        (b"\x81\xaaimage_size\x82\xa5width\x40\xa5width\x41", "width"),
        (msgpack.packb({"prompt": "p", "imge": None}), "imge"),
        (msgpack.packb({"prompt": "p", "imge": 1}), "imge"),
    ],
)
async def test_a_field_that_would_be_ignored_is_refused_by_its_name(
    frame: bytes, name: str
) -> None:
    async with realtime(Server()) as socket:
        socket.send(frame)
        told = await socket.receive()
        assert (told["error"], told["reason"].partition(":")[0]) == ("INVALID_REQUEST", name)
        socket.send({"prompt": "p", "seed": 3, "image": None, "sync_mode": None})
        assert await picture_of(socket) == "preview 3"


async def test_a_data_uri_is_decoded_off_the_event_loop() -> None:
    """A large one would hold up every session of the process."""
    one = Server()
    held, taken = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        taken.release()
        held.wait(5)

    holding = [LOOKERS.submit(hold) for _ in range(LOOKERS._max_workers)]
    try:
        async with realtime(one) as first, realtime(one) as second:
            first.send({"prompt": "p", "seed": 1, **PICTURE})
            second.send({"prompt": "p", "seed": 2})
            assert await picture_of(second) == "preview 2"
            assert [job.seed for job in one.stages.denoiser.jobs] == [2]
            held.set()
            assert await picture_of(first) == "preview 1"
    finally:
        held.set()
        for each in holding:
            each.result(5)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"image": b"1" * 1001}, "image"),
        ({"image": b"GIF89a"}, "image"),
        ({"image": ORANGE, "mask": b"1" * 1001}, "mask"),
        ({"mask": ORANGE}, "mask"),
        ({"mask_url": ORANGE_URL}, "mask_url"),
        ({"image_url": "nothing"}, "image_url"),
        ({"image": "data:image/png;base64,AAAA"}, "image"),
    ],
)
async def test_an_error_names_the_field_that_was_sent(fields: dict[str, Any], name: str) -> None:
    one = Server(realtime=dataclasses.replace(REALTIME, max_frame_bytes=10_000))
    async with realtime(one) as socket:
        socket.send({"prompt": "p", **fields})
        assert (await socket.receive())["reason"].startswith(f"{name}: ")


@pytest.mark.parametrize(("fields", "name"), [({"image": ORANGE}, "image"), (PICTURE, "image_url")])
async def test_an_error_of_a_stage_names_the_field_too(fields: dict[str, Any], name: str) -> None:
    one = Server()
    one.stages.image_codec.encode_error = invalid("image_url", "is no picture")
    async with realtime(one) as socket:
        socket.send({"prompt": "p", "full_quality": True, **fields})
        assert (await socket.receive())["reason"] == f"{name}: is no picture"


async def test_a_warning_comes_with_the_result_whose_message_brought_it() -> None:
    one = Server()
    one.stages.text_encoder.cut = (2, 0)
    async with realtime(one) as socket:
        socket.send({"prompt": "p", "num_inference_steps": 2, "preview_every": 1})
        told = [each.split()[0] for each in (await socket.receive())["warnings"]]
        assert told == ["preview_every", "prompt"]
        socket.send({"seed": 1})
        assert "warnings" not in await socket.receive()
        socket.send({"stream_previews": True, "enable_safety_checker": True})
        preview, final = await socket.receive(), await socket.receive()
        assert "warnings" not in preview
        assert [each.split()[0] for each in final["warnings"]] == ["enable_safety_checker"]
        socket.send({"prompt": "q"})
        await socket.receive()
        assert [each.split()[0] for each in (await socket.receive())["warnings"]] == ["prompt"]


async def test_a_warning_of_a_message_that_is_overtaken_is_told_with_the_next_result() -> None:
    one = Server()
    gate = one.stages.denoiser.hold(1)
    async with realtime(one, "max_buffering=1") as socket:
        socket.send({"prompt": "p", "seed": 0, "acceleration": "high"})
        await until(lambda: len(one.stages.denoiser.jobs) == 1)
        socket.send({"seed": 1})
        await until(lambda: len(one.stages.denoiser.jobs) == 2)
        gate.set()
        result = await socket.receive()
    assert (result["seed"], result["dropped"]) == (1, 1)
    assert result["warnings"] == ["acceleration has no effect: every step is computed in full."]


async def test_so_many_bytes_of_pictures_wait_and_one_that_is_kept_counts_once() -> None:
    one = server(max_waiting_bytes=1000, max_buffering=8)
    gate = one.stages.denoiser.hold(1)
    async with realtime(one) as socket:
        socket.send({"prompt": "p", "seed": 0})
        await until(lambda: one.stages.denoiser.open == 1)
        socket.send({"seed": 1, "image": ORANGE.ljust(600), "strength": 1.0})
        for seed in (2, 3):
            socket.send({"seed": seed})
        socket.send({"seed": 4, "image": grey_png(2).ljust(600)})  # two pictures are too much
        await until(lambda: socket.taken)
        gate.set()
        results = [await socket.receive() for _ in range(2)]
    assert [result["seed"] for result in results] == [0, 4]
    assert sum(result["dropped"] for result in results) == 3


async def test_of_results_that_nobody_reads_the_newest_are_kept() -> None:
    one = server(max_unsent=2, max_buffering=8)
    async with realtime(one) as socket:
        socket.reading.clear()
        for seed in range(6):
            socket.send({"prompt": "p", "seed": seed})
        await until(lambda: len(one.stages.denoiser.jobs) == 6 and not one.stages.denoiser.open)
        await asyncio.sleep(0.01)
        socket.reading.set()
        # The first was on its way before anybody could know.
        results = [await socket.receive() for _ in range(3)]
    assert [result["seed"] for result in results] == [0, 4, 5]
    assert sum(result["dropped"] for result in results) == 3


class TestRawWebSocket:
    async def test_json_in_json_out(self) -> None:
        async with Socket(Server().app, f"{ALIAS}/ws") as socket:
            socket.send(json.dumps({"prompt": "p", "seed": 3, "request_id": "r1"}))
            result = await socket.receive()
            assert (result["type"], result["request_id"]) == ("final", "r1")
            assert result["image"]["url"].startswith("data:image/jpeg;base64,")

    async def test_pictures_in_binary_frames_on_wish(self) -> None:
        async with Socket(Server().app, "/ws", "binary=1") as socket:
            socket.send(json.dumps({"prompt": "p", "seed": 3, "num_images": 2}))
            result = await socket.receive()
            assert result["images"] == [{**result["image"]}] * 2
            assert "url" not in result["image"]
            frames = [await socket.receive_frame() for _ in range(2)]
            assert frames == [b"preview 3", b"preview 4"]

    async def test_what_is_no_json_is_refused(self) -> None:
        async with Socket(Server().app, "/ws") as socket:
            socket.send("{")
            assert (await socket.receive())["error"] == "INVALID_MESSAGE"

    async def test_neither_yes_nor_no(self) -> None:
        async with Socket(Server().app, "/ws", "binary=maybe") as socket:
            assert (await socket.receive())["error"] == "INVALID_REQUEST"
            assert (await socket.closed())[0] == 1008


def test_the_options_are_all_in_the_settings() -> None:
    from config.settings import RealtimeSettings

    known = RealtimeSettings().model_dump(exclude={"max_sessions"})
    assert known.keys() == {field.name for field in dataclasses.fields(RealtimeOptions)}
