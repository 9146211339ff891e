"""Realtime messages, msgpack or JSON, to fields and back.

What fal's clients send and expect: a result is binary msgpack, an error is always JSON text, as
their Python client takes an error in msgpack for a result.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import msgpack
from pydantic import BaseModel, ConfigDict, ValidationError

from glimpse.errors import GlimpseError, InvalidMessage, InvalidRequest, invalid
from glimpse.event_log import Final, Preview, Timings
from glimpse.fields import problems_of
from glimpse.ports import Picture
from glimpse.protocols import json_text
from glimpse.protocols.pictures import image_json, timings_json
from glimpse.request import (
    IGNORED_FIELDS,
    GenerationRequest,
    Offer,
    parse_request,
    picture_in,
)

Frame: TypeAlias = bytes | str
"""Of a WebSocket: binary or text."""

MOST_ENTRIES = 64
"""Of a map or an array in a message, and of those a message. It has far fewer, and a claim of more
costs memory before it is found to be empty; 15 MB of empty arrays in one another are a gigabyte."""

# A value for one of them takes the place of what was kept for the others: they mean the same thing.
SUPERSEDES: dict[str, tuple[str, ...]] = {
    "image": ("image_url",),
    "image_url": ("image",),
    "mask": ("mask_url",),
    "mask_url": ("mask",),
    "image_size": ("width", "height"),
    "width": ("image_size",),
    "height": ("image_size",),
}
OF_A_PICTURE = ("mask", "mask_url", "strength")
"""They mean nothing without an input picture, and go with it."""


class RealtimeInput(BaseModel):
    """What a message has beside the fields of every door."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    image: bytes | None = None
    mask: bytes | None = None
    image_url: bytes | None = None  # these two as `with_pictures_read` has them
    mask_url: bytes | None = None
    image_encoding: Literal["bytes", "data_uri"] = "bytes"
    stream_previews: bool = False
    full_quality: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """One message, with every value decided. `data_uri`: pictures as text, not as bytes."""

    request: GenerationRequest
    data_uri: bool


@dataclass(frozen=True, slots=True)
class Result:
    """A preview or the finished pictures."""

    wanted: Wanted
    event: Preview | Final

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return (self.event.picture,) if isinstance(self.event, Preview) else self.event.pictures

    @property
    def timings(self) -> Timings | None:
        return None if isinstance(self.event, Preview) else self.event.timings


def with_pictures_read(message: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
    """A message with the pictures in its data URIs as bytes: they may be kept for hundreds of
    messages, and each would read them again. Raises `InvalidRequest`.
    """
    read = dict(message)
    for name in ("image_url", "mask_url"):
        url = message.get(name)
        if url is not None:
            read[name] = picture_in(name, url, max_bytes)
    return read


def kept(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What of a message's fields counts for the next. What means nothing is not held in memory."""
    return {
        name: value
        for name, value in fields.items()
        if name != "request_id" and name not in IGNORED_FIELDS
    }


def merged(kept: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message, filled up with what those before it said; null clears."""
    given = [name for name, value in message.items() if value is not None]
    superseded = {other for name in given for other in SUPERSEDES.get(name, ())} - set(given)
    fields = {name: value for name, value in kept.items() if name not in superseded} | {**message}
    fields = {name: value for name, value in fields.items() if value is not None}
    if "image" not in fields and "image_url" not in fields:
        for name in OF_A_PICTURE:
            if name not in message:
                fields.pop(name, None)
    return fields


def parse(fields: Mapping[str, Any], offer: Offer) -> Wanted:
    """What fields mean, after `with_pictures_read`. Raises `InvalidRequest`, field by field."""
    own = RealtimeInput.model_fields
    try:
        ours = RealtimeInput.model_validate({name: fields[name] for name in own if name in fields})
    except ValidationError as failure:
        raise InvalidRequest(problems_of(failure)) from None
    others = {name: value for name, value in fields.items() if name not in own}
    for picture in ("image", "mask"):
        if picture in fields and f"{picture}_url" in fields:
            raise invalid(picture, f"give either {picture} or {picture}_url, not both")
    if not ours.stream_previews:
        others["preview_every"] = 0
    request = parse_request(
        others,
        offer,
        image=ours.image_url if ours.image is None else ours.image,
        mask=ours.mask_url if ours.mask is None else ours.mask,
        full_quality=ours.full_quality,
    )
    return Wanted(request, ours.image_encoding == "data_uri")


class Codec(Protocol):
    """How the messages of one connection are written."""

    def decode(self, frame: Frame) -> dict[str, Any]:
        """Raises `InvalidMessage`."""
        ...

    def encode(self, result: Result, dropped: int) -> list[Frame]:
        """`dropped` counts what was given up since the result before: messages that newer ones
        overtook, and results that the client did not come to read."""
        ...


class Msgpack:
    """`/realtime`: a binary frame a message, both ways."""

    def decode(self, frame: Frame) -> dict[str, Any]:
        if isinstance(frame, str):
            raise InvalidMessage("Send msgpack in binary frames; this was a text frame.")
        try:
            few = _Few()
            message = msgpack.unpackb(
                frame,
                max_array_len=MOST_ENTRIES,
                max_map_len=MOST_ENTRIES,
                max_ext_len=0,
                object_hook=few,
                list_hook=few,
            )
        # Damaged messages make msgpack raise all of these, and its own, which are ValueErrors.
        except (ValueError, TypeError, RecursionError, OverflowError):
            raise InvalidMessage("This is no msgpack message that can be read.") from None
        return _fields(message)

    def encode(self, result: Result, dropped: int) -> list[Frame]:
        def image(picture: Picture) -> dict[str, Any]:
            return image_json(picture) if result.wanted.data_uri else _image_bytes(picture)

        images = [image(picture) for picture in result.pictures]
        packed: bytes = msgpack.packb(
            {"image": images[0], "images": images, **_fields_of(result, dropped)}
        )
        return [packed]


class _Few:
    """Sees every map and array of a message as soon as it is read. Raises `ValueError` when there
    are too many."""

    def __init__(self) -> None:
        self._left = MOST_ENTRIES

    def __call__(self, container: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many maps and arrays")
        return container


class Json:
    """`/ws`: JSON text in. Out one text frame with data URIs, or with `binary` a text frame and
    then a binary frame for each picture."""

    def __init__(self, binary: bool) -> None:
        self._binary = binary

    def decode(self, frame: Frame) -> dict[str, Any]:
        if isinstance(frame, bytes):
            raise InvalidMessage("Send JSON in text frames; this was a binary frame.")
        try:
            message = json_text.loads(frame)
        except ValueError:
            raise InvalidMessage(
                "This is no JSON message that can be read (NaN and Infinity are none either), "
                "or it has too many values."
            ) from None
        return _fields(message)

    def encode(self, result: Result, dropped: int) -> list[Frame]:
        describe = _image_described if self._binary else image_json
        images = [describe(picture) for picture in result.pictures]
        text = json.dumps({"image": images[0], "images": images, **_fields_of(result, dropped)})
        if not self._binary:
            return [text]
        return [text, *(picture.data for picture in result.pictures)]


def error_text(code: str, reason: str, request_id: str | None) -> str:
    """An error as every client of fal's reads it. The session goes on."""
    fields = {"type": "x-fal-error", "error": code, "reason": reason}
    return json.dumps(fields if request_id is None else fields | {"request_id": request_id})


def error_code(error: GlimpseError) -> str:
    return error.code.upper()


def _fields(message: object) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise InvalidMessage('A message is a map of fields, such as {"prompt": "a lighthouse"}.')
    if not all(isinstance(name, str) for name in message):
        raise InvalidMessage("The names of fields are text.")
    return message


def _fields_of(result: Result, dropped: int) -> dict[str, Any]:
    """All but the pictures."""
    event, request = result.event, result.wanted.request
    fields: dict[str, Any] = {
        "type": "preview" if isinstance(event, Preview) else "final",
        "step": event.step if isinstance(event, Preview) else event.steps,
        "steps": event.steps,
        "seed": request.seed,
        "request_id": request.request_id,
        "dropped": dropped,
    }
    if isinstance(event, Preview) and event.rough:
        fields["quality"] = "rough"
    if result.timings is not None:
        fields["timings"] = timings_json(result.timings)
    return fields


def _image_described(picture: Picture) -> dict[str, Any]:
    return {
        "content_type": picture.content_type,
        "width": picture.width,
        "height": picture.height,
    }


def _image_bytes(picture: Picture) -> dict[str, Any]:
    return {"content": picture.data, **_image_described(picture)}
