"""`glimpse.http.openai`: the OpenAI images API, on the wire and for OpenAI's own client."""

import asyncio
import base64
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import httpx2
import jsonschema
import openai
import pytest
from PIL import Image

from glimpse.errors import StageFailed
from glimpse.http.generate import StreamCutOff
from tests.fakes import until
from tests.unit.glimpse.http.asgi import JSON, Exchange, Server

GENERATIONS, EDITS, MODELS = "/v1/images/generations", "/v1/images/edits", "/v1/models"
PROMPT = "a lighthouse"
STREAM = {"prompt": PROMPT, "stream": True, "partial_images": 3}


@contextlib.asynccontextmanager
async def client_of(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's unmodified client. Its transport hands a stream on only once it has ended."""
    transport = httpx2.ASGITransport(server.app, raise_app_exceptions=False)
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        openai.AsyncOpenAI(
            base_url="http://test/v1", api_key="any", max_retries=0, http_client=http
        ) as client,
    ):
        yield client


def png(width: int = 8, height: int = 8, mode: str = "RGB", colour: Any = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def form(*pictures: str, **fields: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of an edit."""
    request = httpx.Request(
        "POST",
        "http://test",
        data={"prompt": PROMPT, **fields},
        files={name: png(mode="RGBA") for name in ("image", *pictures)},
    )
    return request.read(), dict(request.headers)


# Generations


async def test_pictures_are_made_as_asked_for() -> None:
    server = Server()
    began = int(time.time())
    async with client_of(server) as client:
        answer = await client.images.generate(
            model="gpt-image-1.5",
            prompt=PROMPT,
            n=2,
            size="1536x1024",
            quality="high",
            output_format="jpeg",
            output_compression=60,
            user="someone",
        )
    assert answer.data is not None and answer.usage is not None
    pictures = [base64.b64decode(one.b64_json or "") for one in answer.data]
    seeds = [job.seed for job in server.stages.denoiser.jobs]
    assert [picture.split()[0] for picture in pictures] == [b"picture"] * 2
    assert seeds[1] - seeds[0] == 1
    job = server.stages.denoiser.jobs[0]
    assert (job.width, job.height, job.num_inference_steps) == (160, 104, 8)
    assert server.stages.image_codec.qualities == [60, 60]
    assert server.stages.denoiser.emit_denoised_at == [frozenset()] * 2
    assert began <= answer.created <= time.time()
    assert (answer.size, answer.quality, answer.output_format) == ("160x104", "high", "jpeg")
    assert (answer.background, answer.usage.total_tokens) == ("opaque", 0)


async def test_a_url_is_a_data_uri() -> None:
    async with client_of(Server()) as client:
        answer = await client.images.generate(prompt=PROMPT, response_format="url")
    assert answer.data is not None and answer.data[0].b64_json is None
    head, data = (answer.data[0].url or "").split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"picture ")


async def test_partial_images_come_while_the_picture_is_being_made() -> None:
    server = Server()
    gates = {step: server.stages.denoiser.hold(step) for step in (2, 3, 4)}
    exchange = server.open(GENERATIONS, STREAM)
    for seen, gate in enumerate(gates.values(), start=1):
        await exchange.has(seen)
        assert len(exchange.events) == seen
        gate.set()
    await exchange.ended()
    assert exchange.status == 200
    assert exchange.headers["content-type"].startswith("text/event-stream")
    *previews, completed = exchange.events
    assert [event["partial_image_index"] for event in previews] == [0, 1, 2]
    assert [base64.b64decode(event["b64_json"]) for event in previews] == [
        b"preview 1",
        b"preview 2",
        b"preview 3",
    ]
    assert base64.b64decode(completed["b64_json"]).startswith(b"picture ")
    names = [line[7:] for line in exchange.body.split(b"\n") if line.startswith(b"event: ")]
    assert names == [event["type"].encode() for event in exchange.events]
    assert names == [b"image_generation.partial_image"] * 3 + [b"image_generation.completed"]
    assert exchange.complete


async def test_openais_client_reads_the_stream() -> None:
    server = Server()
    gates = {step: server.stages.denoiser.hold(step) for step in (2, 3)}
    decoder = server.stages.preview_decoder

    def decoded(previews: int) -> bool:
        return len(decoder.steps) == previews and not decoder.open

    async def go_on_after_each_preview() -> None:
        for seen, gate in enumerate(gates.values(), start=1):
            await until(partial(decoded, seen))
            gate.set()

    async with client_of(server) as client, asyncio.TaskGroup() as group:
        group.create_task(go_on_after_each_preview())
        stream = await client.images.generate(
            prompt=PROMPT, stream=True, partial_images=2, n=2, output_format="webp"
        )
        events = [event async for event in stream]
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["ImageGenPartialImageEvent"] * 2 + ["ImageGenCompletedEvent"] * 2
    for event in events:
        assert (event.size, event.quality, event.output_format) == ("128x128", "medium", "webp")
    pictures = [base64.b64decode(event.b64_json) for event in events]
    assert pictures[:2] == [b"preview 1", b"preview 2"]
    assert all(picture.startswith(b"picture ") for picture in pictures[2:])


async def test_without_partial_images_there_is_just_the_picture_and_pings_before() -> None:
    server = Server(ping_interval_s=0.01)
    last_step = server.stages.denoiser.hold(4)
    exchange = server.open(GENERATIONS, {"prompt": PROMPT, "stream": True})
    await until(lambda: exchange.body.startswith(b": ping\n\n: ping\n\n"))
    last_step.set()
    await exchange.ended()
    assert [event["type"] for event in exchange.events] == ["image_generation.completed"]


# Edits


async def test_an_edit_starts_from_the_picture_and_has_its_aspect() -> None:
    server = Server(max_body_bytes=10_000)
    async with client_of(server) as client:
        answer = await client.images.edit(image=png(24, 8), prompt=PROMPT)
    assert answer.size == "224x72"
    assert "warnings" not in (answer.model_extra or {})
    assert [each.shape for each in server.stages.image_codec.encoded] == [(72, 224, 3)]
    assert server.stages.image_codec.masks == [None]
    assert server.stages.denoiser.jobs[0].strength == 0.6


@pytest.mark.parametrize("alpha", [0, 1, 255])
async def test_what_is_transparent_in_the_mask_is_edited(alpha: int) -> None:
    server = Server(max_body_bytes=10_000)
    async with client_of(server) as client:
        stream = await client.images.edit(
            image=[png()],
            mask=png(mode="RGBA", colour=(9, 9, 9, alpha)),
            prompt=PROMPT,
            size="1024x1024",
            stream=True,
        )
        events = [event async for event in stream]
    assert [event.type for event in events] == ["image_edit.completed"]
    [mask] = server.stages.image_codec.masks
    assert mask is not None and (mask == (alpha == 0)).all()
    assert server.stages.denoiser.jobs[0].strength == 1.0


@pytest.mark.parametrize(
    ("pictures", "param"),
    [
        ({"image": b"no picture"}, "image"),
        ({"image": png(), "mask": b"no picture"}, "mask"),
        ({"image": png(), "mask": png(mode="L")}, "mask"),
        ({"image": png(), "mask": png(9, 8, mode="RGBA")}, "mask"),
        ({"image": bytes(1001)}, "image"),
        ({"image": png() + bytes(1000)}, "image"),  # more than one picture may have
    ],
)
async def test_a_picture_that_will_not_do_is_a_400_that_names_it(
    pictures: dict[str, Any], param: str
) -> None:
    server = Server(max_body_bytes=10_000)
    async with client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.edit(**pictures, prompt=PROMPT)
    assert refused.value.param == param
    assert server.stages.text_encoder.texts == []


def with_hole(holes: int = 32) -> bytes:
    """A picture of 8 x 8 whose first pixels are fully transparent, and the others half."""
    image = Image.new("RGBA", (8, 8), (200, 9, 9, 128))
    image.putdata([(0, 0, 0, 0)] * holes + [(200, 9, 9, 128)] * (64 - holes))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


async def test_what_is_transparent_in_the_picture_is_the_mask_of_dall_e_2_alone() -> None:
    for model, masked in (("dall-e-2", True), ("gpt-image-1", False), (openai.omit, False)):
        server = Server(max_body_bytes=10_000)
        async with client_of(server) as client:
            answer = await client.images.edit(
                image=with_hole(), prompt=PROMPT, model=model, response_format="b64_json"
            )
        warned = [each.split()[0] for each in (answer.model_extra or {}).get("warnings", [])]
        assert warned.count("mask") == (not masked)
        [mask] = server.stages.image_codec.masks
        [job] = server.stages.denoiser.jobs
        assert (mask is not None, job.strength) == ((True, 1.0) if masked else (False, 0.6))
        if mask is not None:
            assert mask[:8].all() and not mask[8:].any()


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        (with_hole(0), None),
        (png(), None),
        (png(mode="LA", colour=(9, 1)), None),
        (with_hole(), with_hole(1)),
    ],
)
async def test_a_picture_without_holes_or_with_a_mask_is_like_any_other(
    picture: bytes, mask: bytes | None
) -> None:
    for model in ("dall-e-2", "glimpse/miniature"):
        server = Server(max_body_bytes=10_000)
        async with client_of(server) as client:
            answer = await client.images.edit(
                image=picture, mask=mask or openai.omit, prompt=PROMPT, model=model
            )
        assert "mask" not in str((answer.model_extra or {}).get("warnings"))
        [found] = server.stages.image_codec.masks
        assert (found is None) == (mask is None)


# The fields of other doors


NATIVE: dict[str, Any] = {
    "seed": 7,
    "negative_prompt": "fog",
    "guidance_scale": 3.5,
    "num_inference_steps": 6,
    "scheduler": "ddim",
    "image_size": {"width": 64, "height": 96},
    "request_id": "mine",
}


@pytest.mark.parametrize("operation", ["generate", "edit"])
async def test_native_fields_are_taken_as_extra_fields(operation: str) -> None:
    server = Server(max_body_bytes=10_000)
    async with client_of(server) as client:
        if operation == "generate":
            raw = client.images.with_raw_response.generate(prompt=PROMPT, extra_body=NATIVE)
        else:
            more = NATIVE | {"strength": 0.5, "enable_safety_checker": False}
            raw = client.images.with_raw_response.edit(prompt=PROMPT, image=png(), extra_body=more)
        told = await raw
    assert told.headers["x-fal-request-id"] == "mine"
    warnings = json.loads(told.text).get("warnings", [])
    assert [each.split()[0] for each in warnings] == (["image"] if operation == "edit" else [])
    [job] = server.stages.denoiser.jobs
    assert (job.seed, job.guidance_scale, job.num_inference_steps) == (7, 3.5, 6)
    assert (job.scheduler, job.width, job.height) == ("ddim", 64, 96)
    assert job.strength == (0.5 if operation == "edit" else 1.0)
    assert server.stages.text_encoder.texts == [(PROMPT, "fog")]


async def test_a_generation_may_start_from_a_picture_as_everywhere() -> None:
    server = Server(max_body_bytes=10_000)
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    fields = {"prompt": PROMPT, "image_url": url, "mask_url": url, "strength": 0.75}
    answer = await server.ask("POST", GENERATIONS, json=fields)
    assert answer.status_code == 200
    assert answer.json()["warnings"][0].startswith("mask_url selects nothing")
    [picture], [cells] = server.stages.image_codec.encoded, server.stages.image_codec.masks
    assert picture.shape == (128, 128, 3)
    assert cells is not None and not cells.any()
    refused = await server.ask("POST", GENERATIONS, json=fields | {"image_url": "x"})
    assert refused.json()["error"]["param"] == "image_url"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2, "num_images": 2}, "num_images"),
        ({"size": "1024x1024", "width": 64}, "width"),
        ({"size": "1024x1024", "image_size": "square"}, "image_size"),
        ({"seed": -1}, "seed"),
        ({"seed": "7"}, "seed"),
        ({"strength": 0.5}, "strength"),
        ({"negativ_prompt": "fog"}, "negativ_prompt"),
        ({"n": 2.5}, "n"),
    ],
)
async def test_what_is_wrong_with_an_extra_field_is_told(
    fields: dict[str, Any], param: str
) -> None:
    answer = await Server().ask("POST", GENERATIONS, json={"prompt": PROMPT, **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"seed": "-1"}, "seed"),
        ({"seed": "7.5"}, "seed"),
        ({"image_url": "data:image/png;base64,AAAA"}, "image"),
        ({"mask_url": "data:image/png;base64,AAAA"}, "mask"),
        ({"image_size[width]": "64"}, "image_size.size.height"),
        ({"image_size[width]": "64", "image_size": "square"}, "image_size"),
        ({"image_size[depth]": "64"}, "image_size[depth]"),
        ({"scheduler": "best"}, "scheduler"),
    ],
)
async def test_what_is_wrong_with_an_extra_field_of_a_form_is_told(
    fields: dict[str, str], param: str
) -> None:
    body, headers = form(**fields)
    exchange = Exchange(Server(max_body_bytes=10_000).app, EDITS, body, headers=headers)
    await exchange.ended()
    assert exchange.status == 400
    assert json.loads(exchange.body)["error"]["param"] == param


@pytest.mark.parametrize("number", ["2", "2.0"])
async def test_whole_numbers_of_a_form(number: str) -> None:
    server = Server(max_body_bytes=10_000)
    body, headers = form(n=number, seed=number)
    assert (await Exchange(server.app, EDITS, body, headers=headers).ended()).status == 200
    assert [job.seed for job in server.stages.denoiser.jobs] == [2, 3]


async def test_what_was_not_done_is_told_with_the_last_event_or_the_answer() -> None:
    server = Server(max_body_bytes=10_000)
    fields = {"prompt": PROMPT, "style": "vivid", "size": "1024x1024", "seed": 1}
    warned = ["size", "style"]
    answer = await server.ask("POST", GENERATIONS, json=fields)
    assert [each.split()[0] for each in answer.json()["warnings"]] == warned
    exchange = await server.open(GENERATIONS, fields | STREAM).ended()
    *previews, completed = exchange.events
    assert previews and not any("warnings" in event for event in previews)
    assert [each.split()[0] for each in completed["warnings"]] == warned


async def test_a_float_without_a_fraction_is_the_integer() -> None:
    server = Server()
    answer = await server.ask("POST", GENERATIONS, json={"prompt": PROMPT, "n": 2.0, "seed": 7.0})
    assert answer.status_code == 200
    assert [job.seed for job in server.stages.denoiser.jobs] == [7, 8]
    assert all(type(job.seed) is int for job in server.stages.denoiser.jobs)


# Errors


async def test_bad_input_is_what_openais_client_calls_a_bad_request() -> None:
    async with client_of(Server()) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.generate(prompt=PROMPT, background="transparent")
        assert (refused.value.param, refused.value.code) == ("background", "invalid_request")
        assert refused.value.type == "invalid_request_error"
        with pytest.raises(openai.BadRequestError, match="svg: unknown field"):
            await client.images.generate(prompt=PROMPT, svg={"model": "x"})
        with pytest.raises(openai.NotFoundError) as missing:
            await client.images.generate(prompt=PROMPT, model="gpt-4o")
        assert missing.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        ({"max_pictures": 0}, openai.RateLimitError),
        ({"ready": False}, openai.InternalServerError),
    ],
)
async def test_without_a_place_there_is_a_status_before_the_first_byte(
    server: dict[str, Any], kind: type[openai.APIStatusError]
) -> None:
    async with client_of(Server(**server, max_body_bytes=10_000)) as client:
        for asked in (
            client.images.generate(prompt=PROMPT),
            client.images.generate(prompt=PROMPT, stream=True),
            client.images.edit(prompt=PROMPT, image=png(), stream=True),
        ):
            with pytest.raises(kind) as refused:
                await asked
            assert refused.value.code in ("overloaded", "not_ready")
            assert "retry-after" in refused.value.response.headers


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/images", 404),
        ("POST", "/v1/images", 404),
        ("POST", "/v1/images/variations", 404),
        ("GET", "/v1/models/glimpse", 404),
        ("GET", GENERATIONS, 405),
        ("DELETE", EDITS, 405),
        ("POST", MODELS, 405),
        ("PUT", MODELS, 405),
    ],
)
async def test_what_is_not_there_is_told_in_openais_shape(
    method: str, path: str, code: int
) -> None:
    answer = await Server().ask(method, path)
    assert answer.status_code == code
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["type"] == "invalid_request_error"
    if code == 405:
        assert f"; use {answer.headers['allow']}." in answer.json()["error"]["message"]
    assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    ("options", "code", "name"),
    [
        ({"content": b" " * 1001, "headers": JSON}, 413, "body_too_large"),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, None),
        ({"content": b"{", "headers": JSON}, 400, "invalid_request"),
    ],
)
async def test_a_body_that_will_not_do_is_told_in_openais_shape(
    options: dict[str, Any], code: int, name: str | None
) -> None:
    answer = await Server().ask("POST", GENERATIONS, **options)
    assert answer.status_code == code
    assert answer.json()["error"]["code"] == (name or "unsupported_media_type")
    assert answer.json()["error"]["param"] is None


async def test_a_failure_is_a_status_or_an_event_and_a_dropped_connection() -> None:
    server = Server()
    server.stages.denoiser.errors[3] = StageFailed("denoise", "It broke.")
    async with client_of(server) as client:
        with pytest.raises(openai.InternalServerError, match="It broke."):
            await client.images.generate(prompt=PROMPT)
        stream = await client.images.generate(prompt=PROMPT, stream=True)
        with pytest.raises(openai.APIError, match="^It broke.$") as told:
            async for _ in stream:
                pass
        assert (told.value.code, told.value.type) == ("stage_failed", "server_error")
    exchange = await server.open(GENERATIONS, STREAM).ended()
    assert exchange.events[-1]["type"] == "error"
    assert isinstance(exchange.task.exception(), StreamCutOff)
    assert not exchange.complete


async def test_an_error_of_the_server_tells_nothing_of_itself() -> None:
    server = Server()

    def parse(*_: object, **__: object) -> Any:
        raise RuntimeError("secret")

    server.service.parse = parse  # type: ignore[method-assign]
    answer = await server.ask("POST", GENERATIONS, json={"prompt": PROMPT})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


# Leaving


@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
async def test_a_client_that_leaves_stops_its_work_before_the_next_step(
    path: str, stream: str
) -> None:
    server = Server(max_body_bytes=10_000)
    held = server.stages.denoiser.hold(3)
    if path == EDITS:
        body, headers = form("mask", stream=stream)
        exchange = Exchange(server.app, path, body, headers=headers)
    else:
        exchange = server.open(path, {"prompt": PROMPT, "stream": stream == "true"})
    await until(lambda: server.stages.denoiser.steps_run == 2)
    exchange.leave()
    await exchange.ended()
    held.set()
    await asyncio.sleep(0.01)
    assert exchange.task.exception() is None
    assert server.stages.denoiser.steps_run == 2
    assert len(server.stages.denoiser.cancelled) == 1
    assert server.stages.at_work == 0


async def test_a_client_that_leaves_while_it_sends_its_form_is_no_error_of_the_servers() -> None:
    body, headers = form()
    exchange = Exchange(Server().app, EDITS, body[:100], headers=headers, whole=False)
    exchange.leave()
    await exchange.ended()
    assert exchange.status == 499


# Models, and the schema


async def test_models_are_listed() -> None:
    async with client_of(Server()) as client:
        models = [model async for model in client.models.list()]
    assert [model.id for model in models] == ["glimpse/miniature", "glimpse/other"]
    assert {model.owned_by for model in models} == {"glimpse"}


async def test_a_model_is_found_by_its_name_which_has_a_slash() -> None:
    async with client_of(Server()) as client:
        model = await client.models.retrieve("glimpse/miniature")
        assert (model.id, model.owned_by, model.object) == ("glimpse/miniature", "glimpse", "model")
        listed = [each async for each in client.models.list()]
        assert model in listed
        for name in ("glimpse", "no/such", "GLIMPSE/miniature", "dall-e-2"):
            with pytest.raises(openai.NotFoundError) as missing:
                await client.models.retrieve(name)
            assert missing.value.code == "model_not_found"
        for name in ("glimpse/miniature/x", "glimpse/", "/"):
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve(name)
    for path in ("/v1/models/glimpse%2Fminiature", "/v1/models/glimpse/other"):
        assert (await Server().ask("GET", path)).status_code == 200


async def test_the_schema_has_what_each_route_takes() -> None:
    document = (await Server().ask("GET", "/openapi.json")).json()
    paths = document["paths"]
    assert {GENERATIONS, EDITS, MODELS} <= set(paths)
    assert set(paths[MODELS]) == set(paths[f"{MODELS}/{{owner}}/{{alias}}"]) == {"get"}
    for path, kind, required in (
        (GENERATIONS, "application/json", ["prompt"]),
        (EDITS, "multipart/form-data", ["prompt", "image"]),
    ):
        schema = paths[path]["post"]["requestBody"]["content"][kind]["schema"]
        assert schema["required"] == required
        assert schema["properties"]["partial_images"]["maximum"] == 3
        assert ("mask" in schema["properties"]) == (path == EDITS)
        assert ("mask_url" in schema["properties"]) == (path == GENERATIONS)
        assert schema["properties"]["seed"]["anyOf"][0]["type"] == "integer"
        place = (path, "post", "requestBody", "content", kind, "schema")
        pointer = "".join(f"/{each.replace('/', '~1')}" for each in ("paths", *place))
        sent = {"prompt": "x", "image": "x", "n": 2.0, "image_size": {"width": 64.0, "height": 64}}
        known = {name: sent[name] for name in sent if name in schema["properties"]}
        jsonschema.validate(known, {**document, "$ref": f"#{pointer}"})
