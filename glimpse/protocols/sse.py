"""Server-sent events as fal's clients read them, and the JSON they carry.

Only `data:` lines with ASCII JSON, and comments: an `id:`, `retry:`, `event:` or `[DONE]` breaks
one client or another, and another corrupts a character that is split between two chunks.
"""

import json
from typing import Any

from glimpse.errors import GlimpseError
from glimpse.event_log import Event, Failed, Final, Preview, Step
from glimpse.protocols.pictures import image_json, timings_json, warnings_json
from glimpse.request import GenerationRequest

CONTENT_TYPE = "text/event-stream"
PING = b": ping\n\n"


def encode(event: Event, request: GenerationRequest) -> bytes | None:
    """An event as it goes to the client; None for those it does not see."""
    match event:
        case Preview():
            fields = {
                "image": image_json(event.picture),
                "type": "preview",
                "step": event.step,
                "steps": event.steps,
                "seed": request.seed,
                "request_id": request.request_id,
            }
            if event.rough:
                fields["quality"] = "rough"
        case Step():
            fields = {"type": "progress", "step": event.step, "steps": event.steps}
        case Final():
            fields = final_json(event, request)
        case Failed():
            fields = error_json(event.error, request.request_id)
        case _:
            return None
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n\n"


def final_json(event: Final, request: GenerationRequest) -> dict[str, Any]:
    """The finished pictures; the whole answer of `POST /` and the last event of a stream."""
    images = [image_json(picture) for picture in event.pictures]
    return {
        "image": images[0],
        "images": images,
        "type": "final",
        "step": event.steps,
        "steps": event.steps,
        "seed": request.seed,
        "request_id": request.request_id,
        "timings": timings_json(event.timings),
        **warnings_json(event.warnings),
    }


def error_json(error: GlimpseError, request_id: str) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "request_id": request_id}}
