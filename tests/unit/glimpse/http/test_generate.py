"""`glimpse.http.generate`: POST / and POST /stream, to the byte."""

import asyncio
import base64
import io
import json
import logging
import re
import time

import pytest
from PIL import Image

from glimpse.errors import StageFailed, StageLost
from glimpse.http.generate import StreamCutOff
from tests.fakes import rough_previews, until
from tests.unit.glimpse.http.asgi import INPUT, JSON, Exchange, Server
from tests.unit.glimpse.protocols.test_form import END, part

ROOTS = ["", "/glimpse/miniature"]
FORM = {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize("root", ROOTS)
async def test_a_stream_shows_previews_then_the_picture_in_the_bytes_fal_reads(root: str) -> None:
    server = Server()
    gates = [server.stages.denoiser.hold(step) for step in (2, 3, 4)]
    exchange = server.open(f"{root}/stream", INPUT | {"output_format": "png"})
    for seen, gate in enumerate(gates, start=1):
        await exchange.has(seen)
        gate.set()
    await exchange.ended()
    assert exchange.status == 200
    assert exchange.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in exchange.headers
    previews = b"".join(
        b'data: {"image":{"url":"data:image/jpeg;base64,%b","content_type":"image/jpeg",'
        b'"width":128,"height":128},"type":"preview","step":%d,"steps":4,"seed":7,'
        b'"request_id":"r1"}\n\n' % (data, step)
        for data, step in ((b"cHJldmlldyAx", 1), (b"cHJldmlldyAy", 2), (b"cHJldmlldyAz", 3))
    )
    image = (
        b'{"url":"data:image/png;base64,cGljdHVyZSA3","content_type":"image/png",'
        b'"width":128,"height":128}'
    )
    final = (
        b'data: {"image":%b,"images":[%b],"type":"final","step":4,"steps":4,"seed":7,'
        b'"request_id":"r1","timings":{"queue":S,"text_encode":S,"denoise":0.0,'
        b'"decode":S,"total":S}}\n\n' % (image, image)
    )
    timed = re.sub(rb'("queue"|"text_encode"|"decode"|"total"):[0-9.e-]+', rb"\1:S", exchange.body)
    assert timed == previews + final
    assert exchange.complete
    assert exchange.task.exception() is None


@pytest.mark.parametrize(
    ("path", "fields", "headers"),
    [
        ("/stream", INPUT, JSON),
        ("/glimpse/other/stream", INPUT, JSON),
        ("/v1/images/generations", {"prompt": "a lighthouse", "stream": True}, JSON),
        ("/v1/images/edits", None, FORM),
        ("/api/fal/proxy", INPUT, {**JSON, "x-fal-target-url": "https://fal.run/stream"}),
    ],
)
async def test_no_proxy_in_front_may_keep_or_hold_back_a_stream(
    path: str, fields: dict[str, object] | None, headers: dict[str, str]
) -> None:
    """Express with `compression` holds all events back until the end, unless it is told not to."""
    edit = part("prompt", b"a") + part("stream", b"true") + part("image", png(), file=True) + END
    body = json.dumps(fields).encode() if fields else edit
    exchange = await Exchange(Server().app, path, body, headers=headers).ended()
    assert exchange.headers["content-type"].startswith("text/event-stream")
    assert exchange.headers["cache-control"] == "no-store, no-transform"
    assert exchange.headers["x-accel-buffering"] == "no"


async def test_a_preview_that_no_decoder_made_says_so() -> None:
    server = Server(rough=rough_previews(limit_s=5))
    server.stages.preview_decoder.error = StageLost("preview_decode")
    last_step = server.stages.denoiser.hold(2)
    exchange = server.open("/stream", INPUT | {"num_inference_steps": 2})
    await exchange.has(1)
    last_step.set()
    await exchange.ended()
    preview, final = exchange.events
    assert (preview["type"], preview["quality"]) == ("preview", "rough")
    assert base64.b64decode(preview["image"]["url"].split(",")[1]) == b"rough 1"
    assert final["type"] == "final" and "quality" not in final


async def test_progress_tells_of_every_step_before_the_picture() -> None:
    exchange = (
        await Server().open("/stream", INPUT | {"progress": True, "preview_every": 0}).ended()
    )
    assert exchange.events[:-1] == [
        {"type": "progress", "step": step, "steps": 4} for step in (1, 2, 3, 4)
    ]
    assert exchange.events[-1]["type"] == "final"


@pytest.mark.parametrize(("preview_every", "shown"), [(0, 0), (100, 1)])
async def test_a_stream_on_which_nothing_is_sent_has_pings_also_while_steps_are_run(
    preview_every: int, shown: int
) -> None:
    server = Server(ping_interval_s=0.05)
    server.stages.denoiser.step_s = 0.02
    fields = INPUT | {"preview_every": preview_every, "num_inference_steps": 10}
    began = time.monotonic()
    exchange = await server.open("/stream", fields).ended()
    assert 2 <= exchange.body.count(b": ping\n\n") <= (time.monotonic() - began) / 0.05
    assert [event["type"] for event in exchange.events] == ["preview"] * shown + ["final"]
    assert all(
        line.startswith((b"data: ", b": ping")) for line in exchange.body.split(b"\n\n")[:-1]
    )
    assert exchange.complete


async def test_the_first_ping_comes_while_the_first_step_is_waited_for() -> None:
    server = Server(ping_interval_s=0.01)
    first_step = server.stages.denoiser.hold(1)
    exchange = server.open("/stream")
    await until(lambda: exchange.body.startswith(b": ping\n\n: ping\n\n"))
    first_step.set()
    await exchange.ended()
    assert exchange.events[-1]["type"] == "final"


@pytest.mark.parametrize("root", ROOTS)
async def test_run_answers_with_the_picture_as_json(root: str) -> None:
    answer = await Server().ask("POST", root or "/", json=INPUT | {"num_images": 2})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    fields = answer.json()
    assert set(fields.pop("timings")) == {"queue", "text_encode", "denoise", "decode", "total"}
    images = [
        {
            "url": f"data:image/jpeg;base64,{data}",
            "content_type": "image/jpeg",
            "width": 128,
            "height": 128,
        }
        for data in ("cGljdHVyZSA3", "cGljdHVyZSA4")
    ]
    assert fields == {
        "image": images[0],
        "images": images,
        "type": "final",
        "step": 4,
        "steps": 4,
        "seed": 7,
        "request_id": "r1",
        "warnings": [
            "preview_every has no effect: the answer has the finished pictures alone; use /stream."
        ],
    }


async def test_previews_that_nobody_is_shown_are_not_made() -> None:
    server = Server()
    fields = {"prompt": "x", "num_inference_steps": 20, "progress": True, "preview_size": 64}
    answer = await server.ask("POST", "/", json=fields)
    assert [each.split()[0] for each in answer.json()["warnings"]] == ["preview_size", "progress"]
    assert server.stages.denoiser.emit_denoised_at == [frozenset()]
    assert server.stages.preview_decoder.steps == []
    assert "warnings" not in (await server.ask("POST", "/", json={"prompt": "x"})).json()


async def test_warnings_are_in_the_last_event() -> None:
    exchange = await Server().open("/stream", INPUT | {"enable_safety_checker": True}).ended()
    *previews, final = exchange.events
    assert previews and not any("warnings" in event for event in previews)
    assert final["warnings"] == ["enable_safety_checker has no effect: no picture is checked."]


@pytest.mark.parametrize("path", ["/", "/stream"])
async def test_a_float_without_a_fraction_is_the_integer(path: str) -> None:
    server = Server()
    fields = {"prompt": "x", "seed": 7.0, "num_inference_steps": 4.0, "num_images": 2.0}
    assert (await server.ask("POST", path, json=fields)).status_code == 200
    assert [job.seed for job in server.stages.denoiser.jobs] == [7, 8]
    for wrong in (4.5, "4", True, [4.0]):
        answer = await server.ask("POST", path, json=fields | {"num_inference_steps": wrong})
        assert answer.status_code == 422


async def test_a_random_seed_is_told() -> None:
    answer = await Server().ask("POST", "/", json={"prompt": "x", "seed": None})
    seed = answer.json()["seed"]
    assert 0 <= seed < 2**32
    assert answer.json()["images"][0]["url"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("path", ["/", "/stream", "/glimpse/miniature", "/glimpse/other/stream"])
@pytest.mark.parametrize("ready", [True, False])
async def test_without_a_place_there_is_a_status_before_the_first_byte(
    path: str, ready: bool
) -> None:
    server = Server(ready=ready, max_pictures=0)
    answer = await server.ask("POST", path, json=INPUT)
    assert answer.status_code == (429 if ready else 503)
    assert answer.headers["retry-after"] == ("1" if ready else "2")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-fal-request-id"] == "r1"
    fields = answer.json()
    assert fields["detail"] == fields["message"]
    assert fields["error_type"] == ("overloaded" if ready else "not_ready")
    assert server.stages.text_encoder.texts == []


async def test_a_place_is_free_again_after_every_kind_of_end() -> None:
    server = Server(max_pictures=1)
    denoiser = server.stages.denoiser
    held = denoiser.hold(2)
    exchange = server.open("/stream")
    await until(lambda: denoiser.steps_run == 1)
    assert (await server.ask("POST", "/", json=INPUT)).status_code == 429
    exchange.leave()
    await exchange.ended()
    held.set()
    denoiser.errors[4] = StageFailed("denoise")
    assert (await server.ask("POST", "/", json=INPUT)).status_code == 500
    await server.open("/stream").ended()
    denoiser.errors.clear()
    assert (await server.ask("POST", "/", json=INPUT)).status_code == 200


async def test_a_failure_after_the_first_byte_is_a_last_event_and_a_dropped_connection() -> None:
    server = Server()
    server.stages.denoiser.errors[3] = StageFailed("denoise", "It broke.")
    exchange = await server.open("/stream").ended()
    assert exchange.status == 200
    assert exchange.events[-1] == {
        "error": {"code": "stage_failed", "message": "It broke.", "request_id": "r1"}
    }
    assert isinstance(exchange.task.exception(), StreamCutOff)
    assert not exchange.complete


async def test_a_failure_of_run_is_its_status_and_json() -> None:
    server = Server()
    server.stages.denoiser.errors[3] = StageFailed("denoise", "It broke.")
    answer = await server.ask("POST", "/", json=INPUT)
    assert answer.status_code == 500
    assert answer.json() == {
        "detail": "It broke.",
        "message": "It broke.",
        "error_type": "stage_failed",
    }
    assert answer.headers["x-fal-request-id"] == "r1"


async def test_past_the_deadline_run_is_a_504_and_a_stream_ends_in_an_error() -> None:
    server = Server(deadline_s=0.05)
    server.stages.denoiser.hold(2)
    answer = await server.ask("POST", "/", json=INPUT)
    assert (answer.status_code, answer.json()["error_type"]) == (504, "deadline_exceeded")
    exchange = await server.open("/stream").ended()
    assert exchange.events[-1]["error"]["code"] == "deadline_exceeded"
    assert not exchange.complete
    assert server.stages.at_work == 0


@pytest.mark.parametrize("path", ["/", "/stream"])
async def test_a_client_that_leaves_stops_its_work_before_the_next_step(path: str) -> None:
    server = Server()
    held = server.stages.denoiser.hold(3)
    exchange = server.open(path)
    await until(lambda: server.stages.denoiser.steps_run == 2)
    exchange.leave()
    await exchange.ended()
    held.set()
    await asyncio.sleep(0.01)
    assert exchange.task.exception() is None
    assert server.stages.denoiser.steps_run == 2
    assert server.stages.denoiser.cancelled == ["r1/0"]
    assert server.stages.at_work == 0


@pytest.mark.parametrize("path", ["/", "/stream", "/v1/images/generations"])
async def test_a_client_that_leaves_while_it_waits_for_a_place_leaves_the_queue(path: str) -> None:
    server = Server(max_pictures=1, place_wait_s=60)
    server.stages.denoiser.hold(2)
    first = server.open("/stream")
    await until(lambda: server.stages.denoiser.steps_run == 1)
    fields = {"prompt": "a lighthouse"}
    leaving, other = server.open(path, fields, port=2), server.open(path, fields, port=3)
    await until(lambda: len(server.service._pictures._queue) == 2)
    assert leaving.sent == []
    leaving.leave()
    await leaving.ended()
    assert len(server.service._pictures._queue) == 1
    server.stages.denoiser.hold(2).set()
    first.leave()
    assert (await other.ended()).status == 200


@pytest.mark.parametrize("path", ["/", "/stream"])
async def test_a_server_that_cancels_the_request_stops_the_work_and_frees_the_place(
    path: str,
) -> None:
    server = Server(max_pictures=1)
    server.stages.denoiser.hold(3)
    exchange = server.open(path)
    await until(lambda: server.stages.denoiser.steps_run == 2)
    exchange.leave()
    for _ in range(20):  # Serve cancels the request too, at any time after its client has left
        exchange.task.cancel()
        await asyncio.sleep(0)
    await exchange.ended()
    await until(lambda: server.stages.at_work == 0)
    answer = server.open("/", INPUT | {"num_inference_steps": 1})
    assert (await answer.ended()).status == 200


async def test_a_client_that_leaves_while_it_sends_its_body_is_no_error_of_the_servers() -> None:
    exchange = Exchange(Server().app, "/stream", b'{"prompt": ', whole=False)
    exchange.leave()
    await exchange.ended()
    assert exchange.status == 499


async def test_a_stream_that_is_cancelled_from_elsewhere_does_not_end_like_a_success() -> None:
    server = Server()
    server.stages.denoiser.cancels_itself_at = 2
    exchange = await server.open("/stream").ended()
    assert [event["type"] for event in exchange.events] == ["preview"]
    assert isinstance(exchange.task.exception(), StreamCutOff)


async def test_bad_input_is_a_422_that_names_the_field_and_never_the_value() -> None:
    server = Server()
    fields = INPUT | {"num_inference_steps": 4242, "num_inference_stpes": "my secret"}
    for path in ("/", "/stream"):
        answer = await server.ask("POST", path, json=fields)
        assert answer.status_code == 422
        named = sorted(problem["loc"] for problem in answer.json()["detail"])
        assert named == [["body", "num_inference_steps"], ["body", "num_inference_stpes"]]
        assert set(answer.json()["detail"][0]) == {"loc", "msg", "type"}
        assert "unknown field; did you mean num_inference_steps?" in answer.json()["message"]
        assert "4242" not in answer.text
        assert "secret" not in answer.text
        assert answer.headers["x-fal-request-id"]
    assert server.stages.text_encoder.texts == []


def picture_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def png(mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


async def test_an_input_picture_reaches_the_codec() -> None:
    server = Server()
    fields = INPUT | {"image_url": picture_url(png()), "strength": 0.5}
    exchange = await server.open("/stream", fields).ended()
    [picture] = server.stages.image_codec.encoded
    assert picture.shape == (128, 128, 3) and not picture.any()
    assert exchange.events[-1]["steps"] == 2


async def test_a_mask_reaches_the_codec_with_its_picture() -> None:
    server = Server()
    fields = INPUT | {"image_url": picture_url(png()), "mask_url": picture_url(png("L"))}
    exchange = await server.open("/stream", fields).ended()
    assert exchange.events[-1]["type"] == "final"
    [cells] = server.stages.image_codec.masks
    assert cells is not None and cells.shape == (16, 16) and not cells.any()


async def test_a_mask_without_a_picture_is_a_422() -> None:
    server = Server()
    answer = await server.ask("POST", "/", json=INPUT | {"mask_url": picture_url(png())})
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("mask_url: has a meaning only with image_url")
    assert server.stages.text_encoder.texts == []


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(50)])
async def test_what_is_no_picture_is_a_422_before_the_first_byte(data: bytes) -> None:
    server = Server()
    for path in ("/", "/stream"):
        answer = await server.ask("POST", path, json=INPUT | {"image_url": picture_url(data)})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "image_url"]
        masked = INPUT | {"image_url": picture_url(png()), "mask_url": picture_url(data)}
        answer = await server.ask("POST", path, json=masked)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "mask_url"]
    assert server.stages.text_encoder.texts == []


async def test_two_streams_with_one_seed_do_not_disturb_each_other() -> None:
    server = Server()
    streams = [server.open("/stream", INPUT | {"request_id": name}) for name in ("a", "b")]
    for stream, name in zip(streams, ("a", "b"), strict=True):
        await stream.ended()
        assert {event["request_id"] for event in stream.events} == {name}
        assert stream.headers["x-fal-request-id"] == name


async def test_log_lines_carry_the_request_and_never_the_prompt() -> None:
    lines = _Lines()
    logger = logging.getLogger("glimpse")
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        await Server().open("/stream", INPUT | {"negative_prompt": "darkness"}).ended()
    finally:
        logger.setLevel(level)
        logger.removeHandler(lines)
    assert [line.split()[0] for line in lines.seen] == ["r1", "r1"]
    assert "lighthouse" not in str(lines.seen)
    assert "darkness" not in str(lines.seen)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        from glimpse.logs import _add_request_id

        super().__init__()
        self.addFilter(_add_request_id)
        self.setFormatter(logging.Formatter("%(request_id)s %(message)s"))
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))
