"""The OpenAI images API: what its clients are told."""

import base64
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from glimpse.errors import GlimpseError, InvalidRequest
from glimpse.event_log import Event, Failed, Final, Preview
from glimpse.fields import renamed, renamed_warnings
from glimpse.ports import Picture
from glimpse.protocols.openai import FIELD_NAMES, ImagesRequest, no_such_model
from glimpse.protocols.pictures import warnings_json
from glimpse.request import GenerationRequest

PATHS = ("/v1/images", "/v1/models")
# What its clients put behind their `base_url`.
ENDING = re.compile(r"/(images/(generations|edits)|models)(/|$)")

# Nothing is metered, but clients have these fields typed as numbers.
USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "total_tokens": 0,
}


def encode(
    event: Event, request: GenerationRequest, asked: ImagesRequest, now: int
) -> bytes | None:
    """An event as it goes to the client at `now`, in seconds since 1970: a server-sent event for
    each picture in it. None for events that it does not see.
    """
    match event:
        case Preview():
            return _sent(
                f"{asked.operation}.partial_image",
                _base64(event.picture),
                {"partial_image_index": sorted(request.preview_steps).index(event.step)},
                _told(request, asked, now),
            )
        case Final():
            told = _told(request, asked, now) | warnings_json(_named(event.warnings, asked))
            return b"".join(
                _sent(f"{asked.operation}.completed", _base64(picture), {"usage": USAGE}, told)
                for picture in event.pictures
            )
        case Failed():
            return _sent("error", error_json(event.error, FIELD_NAMES[asked.operation]))
        case _:
            return None


def _sent(kind: str, *parts: Mapping[str, Any]) -> bytes:
    fields = {"type": kind}
    for part in parts:
        fields |= part
    data = json.dumps(fields, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode("ascii")


def _told(request: GenerationRequest, asked: ImagesRequest, now: int) -> dict[str, Any]:
    return {"created_at": now, **_properties(request, asked)}


def _properties(request: GenerationRequest, asked: ImagesRequest) -> dict[str, Any]:
    """As they turned out: no `auto` among them."""
    return {
        "size": f"{request.width}x{request.height}",
        "quality": asked.quality,
        "background": "opaque",
        "output_format": asked.output_format,
    }


def images_json(
    final: Final, request: GenerationRequest, asked: ImagesRequest, now: int
) -> dict[str, Any]:
    """The whole answer without a stream."""
    return {
        "created": now,
        "data": [
            {"url": _data_uri(picture.data, picture.content_type)}
            if asked.as_url
            else _base64(picture)
            for picture in final.pictures
        ],
        "usage": USAGE,
        **_properties(request, asked),
        **warnings_json(_named(final.warnings, asked)),
    }


def _named(warnings: Iterable[str], asked: ImagesRequest) -> tuple[str, ...]:
    return renamed_warnings(warnings, FIELD_NAMES[asked.operation])


def _base64(picture: Picture) -> dict[str, str]:
    return {"b64_json": base64.b64encode(picture.data).decode("ascii")}


def _data_uri(data: bytes, content_type: str = "image/png") -> str:
    """What is really in it only matters where a client is to read it."""
    return f"data:{content_type};base64,{base64.b64encode(data).decode('ascii')}"


def models_json(models: Collection[str], created: int) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [_model_json(name, created) for name in models],
    }


def model_json(name: str, models: Collection[str], created: int) -> dict[str, Any]:
    """One of the models by its name. Raises `ModelNotFound`."""
    if name not in models:
        raise no_such_model(models)
    return _model_json(name, created)


def _model_json(name: str, created: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": name.partition("/")[0],
    }


def speaks(path: str) -> bool:
    """Whether what is at a path is answered in OpenAI's words, errors too."""
    return any(path == root or path.startswith(f"{root}/") for root in PATHS)


def hint(path: str) -> str:
    """For a path where nothing is, if a client of OpenAI's was given a wrong `base_url`."""
    ending = ENDING.search(path)
    if ending is None or speaks(path):
        return ""
    return f" The OpenAI images API has /v1/{ending[1]}: base_url ends with /v1."


def status(error: GlimpseError) -> int:
    """OpenAI's for bad input is 400."""
    return 400 if isinstance(error, InvalidRequest) else error.status


def names_at(path: str) -> Mapping[str, str]:
    """The names that clients of a route have for fields, by those that they have further in."""
    return FIELD_NAMES["image_edit" if path == f"{PATHS[0]}/edits" else "image_generation"]


def error_json(
    error: GlimpseError, names: Mapping[str, str] = FIELD_NAMES["image_edit"]
) -> dict[str, Any]:
    """`param` is the first field that is wrong, by the client's name for it."""
    param = None
    if isinstance(error, InvalidRequest):
        error = renamed(error, names)
        place = [part for part in error.problems[0]["loc"] if part != "body"]
        param = ".".join(map(str, place)) or None
    kind = "server_error" if error.fault == "server" else "invalid_request_error"
    if error.status == 429:
        kind = "rate_limit_error"
    return {"error": {"message": error.message, "type": kind, "param": param, "code": error.code}}
