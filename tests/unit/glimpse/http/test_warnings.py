"""Nothing is silently ignored: each field of each door has an effect, or a warning of its own.

An effect is what a stage is asked for, or what the client is told, that is not the same without the
field. A new field of any input table fails here until it has a case.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import msgpack
import pytest

from glimpse.fields import field_of
from glimpse.ports import Job
from glimpse.protocols import openai
from glimpse.protocols.realtime import RealtimeInput
from glimpse.request import IGNORED_FIELDS, GenerationInput
from tests.fakes import FakeStages
from tests.mutations import PNG, PNG_URL
from tests.unit.glimpse.http.asgi import Exchange, Server
from tests.unit.glimpse.http.websocket import Socket

Fields = dict[str, Any]
Case = tuple[Fields, Any]
"""What is beside a field, and its value."""

BASE: Fields = {"prompt": "a lighthouse", "seed": 7, "request_id": "r1", "num_inference_steps": 4}
GUIDED = {"guidance_scale": 4.5}
PICTURE = {"image_url": PNG_URL}
PREVIEWS = {"preview_every": 1}

# Values that differ from the default of the field, with what else they need; each with the ways in
# which a field can come to nothing.
NATIVE: dict[str, list[Case]] = {
    "prompt": [({}, "a windmill")],
    "negative_prompt": [(GUIDED, "fog"), ({"guidance_scale": 1.0}, "fog"), ({}, "fog")],
    "num_inference_steps": [({}, 3), (PICTURE, 2), (PICTURE, 7)],
    "guidance_scale": [({}, 2.0), ({"guidance_scale": 1}, 0.5)],
    "seed": [({}, 8)],
    "image_size": [({}, "landscape_16_9"), ({}, {"width": 64, "height": 64})],
    "width": [({}, 64)],
    "height": [({}, 64)],
    "num_images": [({}, 2)],
    "image_url": [({}, PNG_URL)],
    "mask_url": [(PICTURE, PNG_URL)],
    "strength": [(PICTURE, 0.75), (PICTURE, 0.7)],
    "scheduler": [({}, "ddim")],
    "preview_every": [({}, 2), ({"num_inference_steps": 1}, 2), ({"num_images": 2}, 1)],
    "preview_format": [(PREVIEWS, "webp"), ({"preview_every": 0}, "webp")],
    "preview_quality": [(PREVIEWS, 30), ({"num_inference_steps": 1}, 30)],
    "preview_size": [(PREVIEWS, 64), ({"preview_every": 0}, 64), (PREVIEWS, 2048)],
    "output_format": [({}, "webp")],
    "progress": [({}, True)],
    "request_id": [({}, "r2")],
    # What fal's apps take: the values that ask for something.
    "acceleration": [({}, "high")],
    "enable_prompt_expansion": [({}, True)],
    "enable_safety_checker": [({}, True)],
    "expand_prompt": [({}, True)],
    "format": [({}, "webp")],
    "safety_checker_version": [({}, "v2")],
    "safety_tolerance": [({}, "2")],
    "sync_mode": [({}, "yes")],
}
# Of a session the full VAE alone is a fake that sees masks.
SESSIONS: dict[str, list[Case]] = {
    **NATIVE,
    "mask_url": [({**PICTURE, "full_quality": True}, PNG_URL)],
    "stream_previews": [(PREVIEWS, True), ({"preview_every": 0}, True), ({"num_images": 2}, True)],
    "full_quality": [({}, True)],
    "image_encoding": [({}, "data_uri")],
}
IN_BYTES: dict[str, list[Case]] = {
    "image": [({}, PNG)],
    "mask": [({"image": PNG, "full_quality": True}, PNG)],
}
GENERATIONS: dict[str, list[Case]] = {
    **NATIVE,
    "model": [({}, "gpt-image-1"), ({}, "dall-e-2")],
    "n": [({}, 2)],
    "size": [({}, "1536x1024"), ({}, "1024x1024")],
    "quality": [({"num_inference_steps": None}, "high"), ({}, "high")],
    "output_compression": [({"output_format": "jpeg"}, 50)],
    "response_format": [({}, "url")],
    "stream": [({}, True)],
    "partial_images": [({"stream": True}, 2), ({"stream": True, "num_inference_steps": 2}, 3)],
    "complexity": [({}, "high")],
    "input_fidelity": [({}, "high")],
    "moderation": [({}, "low")],
    "style": [({}, "vivid")],
}
# The picture is a file here, and always there.
EDITS: dict[str, list[Case]] = {
    name: [
        ({k: v for k, v in beside.items() if k not in PICTURE}, value) for beside, value in cases
    ]
    for name, cases in GENERATIONS.items()
    if name not in ("image_url", "mask_url")
}

# Values that ask for what is done anyway.
HARMLESS: dict[str, list[Any]] = {
    "acceleration": ["none"],
    "enable_prompt_expansion": [False],
    "enable_safety_checker": [False],
    "expand_prompt": [False],
    "safety_tolerance": ["6", 6],
    "sync_mode": [True, False],
    "preview_every": [0],
    "progress": [False],
    "negative_prompt": [""],
}
WITH_PREVIEWS = {name: values for name, values in HARMLESS.items() if name != "preview_every"}
OPENAIS_HARMLESS: dict[str, list[Any]] = {
    **HARMLESS,
    "background": ["opaque", "auto"],
    "user": ["someone"],
    "safety_identifier": ["someone"],
    "input_fidelity": ["low"],
    "model": ["glimpse/miniature"],
    "quality": ["auto"],
    "size": ["auto"],
    "output_compression": [100],
}


@dataclass
class Door:
    """A way in. `always` is what every message has, beside `BASE`."""

    path: str
    cases: dict[str, list[Case]]
    harmless: dict[str, list[Any]]
    query: str = ""
    always: Fields = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.path}{self.query and '?'}{self.query}{''.join(self.always)}"

    async def observe(self, fields: Fields) -> tuple[str, set[str]]:
        """What the stages were asked for and the client was told; and the fields with a warning."""
        server = Server(max_body_bytes=100_000)
        fields = {name: value for name, value in fields.items() if value is not None}
        told = await self._told(server, fields)
        warnings = told.pop("warnings", None)
        assert warnings != [], "absent where there are none"
        for name in ("timings", "created", "created_at"):
            told.pop(name, None)
        return repr((asked_of(server.stages), told)), set(map(field_of, warnings or ()))

    async def _told(self, server: Server, fields: Fields) -> Fields:
        if self.path in ("/realtime", "/ws"):
            return await self._in_a_session(server, fields)
        if self.path == "/v1/images/edits":
            body, headers = form(fields)
            exchange = Exchange(server.app, self.path, body, headers=headers)
        else:
            exchange = Exchange(server.app, self.path, json.dumps(fields).encode())
        await exchange.ended()
        assert exchange.status == 200, exchange.body
        if exchange.headers["content-type"] == "application/json":
            answer: Fields = json.loads(exchange.body)
            return answer
        *before, last = exchange.events
        return {**last, "before": kinds(before)}

    async def _in_a_session(self, server: Server, fields: Fields) -> Fields:
        before: list[Any] = []
        async with Socket(server.app, self.path, self.query) as socket:
            socket.send(json.dumps(fields) if self.path == "/ws" else fields)
            while True:
                frame = await socket.receive_frame()
                if self.path == "/ws" and isinstance(frame, bytes):
                    continue  # the picture of what was told just before
                told = json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame)
                if told["type"] == "final":
                    break
                assert told["type"] == "preview", told
                before.append(told)
        return {**told, "before": kinds(before)}


def asked_of(stages: FakeStages) -> list[Any]:
    """What makes a difference for a picture or a preview, and happens each time."""
    return [
        stages.text_encoder.texts,
        [_as_run(job) for job in stages.denoiser.jobs],
        [
            (sorted(options.emit_at), sorted(options.emit_denoised_at), options.picture)
            for options in stages.denoiser.options
        ],
        # A preview is no larger than its picture. Which of them are late is chance.
        {replace(spec, size=min(spec.size, 128)) for spec in stages.preview_decoder.specs},
        stages.preview_decoder.encoded,
        [stages.image_codec.encoded, stages.image_codec.masks, stages.image_codec.qualities],
    ]


def _as_run(job: Job) -> tuple[Any, ...]:
    """Settings that come to the same are the same here."""
    steps = int(job.num_inference_steps * job.strength)
    return (replace(job, strength=1, guidance_scale=max(1.0, job.guidance_scale)), steps)


def kinds(events: Iterable[Fields]) -> set[str]:
    return {event["type"] for event in events}


def form(fields: Fields) -> tuple[bytes, dict[str, str]]:
    """As OpenAI's client writes one."""
    texts = {
        f"{name}[{inner}]" if inner else name: json.dumps(each).strip('"')
        for name, value in fields.items()
        for inner, each in (value.items() if isinstance(value, dict) else [("", value)])
    }
    request = httpx.Request("POST", "http://test", data=texts, files={"image": PNG})
    return request.read(), dict(request.headers)


DOORS = [
    Door("/", NATIVE, HARMLESS),
    Door("/stream", NATIVE, HARMLESS),
    Door("/realtime", SESSIONS | IN_BYTES, HARMLESS),
    Door("/realtime", SESSIONS | IN_BYTES, WITH_PREVIEWS, always={"stream_previews": True}),
    Door("/ws", {**SESSIONS, "image_encoding": [({}, "bytes")]}, HARMLESS),
    Door("/ws", SESSIONS, HARMLESS, query="binary=1"),
    Door("/v1/images/generations", GENERATIONS, OPENAIS_HARMLESS),
    # The default strength rounds steps away.
    Door("/v1/images/edits", EDITS, OPENAIS_HARMLESS, always={"strength": 1}),
]
INPUTS: dict[str, set[str]] = {
    "/": {*GenerationInput.model_fields, *IGNORED_FIELDS},
    "/stream": {*GenerationInput.model_fields, *IGNORED_FIELDS},
    "/realtime": {*GenerationInput.model_fields, *IGNORED_FIELDS, *RealtimeInput.model_fields},
    "/ws": {*GenerationInput.model_fields, *IGNORED_FIELDS, *RealtimeInput.model_fields}
    - {"image", "mask"},  # JSON has no bytes
    "/v1/images/generations": {*openai.ExtendedInput.model_fields, *openai.IGNORED},
    "/v1/images/edits": {*openai.ExtendedInput.model_fields, *openai.IGNORED}
    - {"image_url", "mask_url"},  # refused
}
each_door = pytest.mark.parametrize("door", DOORS, ids=str)


@each_door
def test_every_field_of_the_input_has_a_case(door: Door) -> None:
    assert INPUTS[door.path] == door.cases.keys() | door.harmless.keys()


@each_door
async def test_every_field_has_an_effect_or_a_warning(door: Door) -> None:
    silent = []
    without: dict[str, str] = {}
    for name, cases in door.cases.items():
        for beside, value in cases:
            fields = {**BASE, **door.always, **beside}
            key = json.dumps(sorted(fields.items()), default=repr)
            if key not in without:
                without[key], _ = await door.observe(fields)
            before = without[key]
            after, warned = await door.observe(fields | {name: value})
            if before == after and name not in warned and fields.get(name) != value:
                silent.append((name, value, beside))
    assert silent == []


@each_door
async def test_what_is_done_has_no_warning(door: Door) -> None:
    assert (await door.observe(BASE | door.always))[1] == set()
    for name, values in door.harmless.items():
        for value in values:
            assert (await door.observe(BASE | door.always | {name: value}))[1] == set(), name
