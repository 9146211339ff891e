"""Realtime messages, msgpack or JSON, to fields and back.

What fal's clients send and expect: a result is binary msgpack, an error is always JSON text, as
their Python client takes an error in msgpack for a result.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias

import msgpack
from pydantic import BaseModel, ConfigDict, ValidationError

from glimpse.errors import GlimpseError, InvalidMessage, InvalidRequest, invalid
from glimpse.event_log import Final, Preview, Timings
from glimpse.fields import problems_of, renamed
from glimpse.input_pictures.inspection import InputPicture
from glimpse.ports import Picture
from glimpse.protocols import json_text, packed
from glimpse.protocols.pictures import image_json, timings_json, warnings_json
from glimpse.request import (
    IGNORED_FIELDS,
    GenerationInput,
    GenerationRequest,
    Offer,
    parse_request,
    picture_in,
)
from glimpse.request_warnings import Shown

Frame: TypeAlias = bytes | str
"""Of a WebSocket: binary or text."""

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
PICTURES = ("image", "mask", "image_url", "mask_url")
OF_A_PICTURE = ("mask", "mask_url", "strength")
"""They mean nothing without an input picture, and go with it."""

WITH_PREVIEWS = Shown(no_progress="a session tells of previews alone")
PICTURES_ALONE = Shown("stream_previews is not true", WITH_PREVIEWS.no_progress)


class RealtimeInput(BaseModel):
    """What a message has beside the fields of every door."""

    model_config = ConfigDict(
        extra="ignore", strict=True, frozen=True, arbitrary_types_allowed=True
    )

    image: InputPicture | None = None  # these four as `with_pictures_looked_at` has them
    mask: InputPicture | None = None
    image_url: InputPicture | None = None
    mask_url: InputPicture | None = None
    image_encoding: Literal["bytes", "data_uri"] = "bytes"
    stream_previews: bool = False
    full_quality: bool = False


KNOWN = {*GenerationInput.model_fields, *RealtimeInput.model_fields, *IGNORED_FIELDS}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One message, with every value decided. `data_uri`: pictures as text, not as bytes. `fields`
    are the message's and those kept from the messages before it. `number` counts messages."""

    request: GenerationRequest
    data_uri: bool
    fields: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0

    def named(self, error: GlimpseError) -> GlimpseError:
        """An error with the client's names for the fields."""
        return renamed(error, names(self.fields)) if isinstance(error, InvalidRequest) else error


@dataclass(frozen=True, slots=True)
class Result:
    """A preview or the finished pictures; `warnings` go with the finished ones."""

    wanted: Wanted
    event: Preview | Final
    warnings: tuple[str, ...] = ()

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return (self.event.picture,) if isinstance(self.event, Preview) else self.event.pictures

    @property
    def timings(self) -> Timings | None:
        return None if isinstance(self.event, Preview) else self.event.timings


def has_pictures(message: Mapping[str, Any]) -> bool:
    return any(message.get(name) is not None for name in PICTURES)


def with_pictures_looked_at(message: Mapping[str, Any], offer: Offer) -> dict[str, Any]:
    """A message with its pictures looked at: they may be kept for hundreds of messages, and each
    would look at them again. Raises `InvalidRequest`.
    """
    read = dict(message)
    for name in PICTURES:
        value = message.get(name)
        if value is None:
            continue
        if isinstance(value, bytes) == name.endswith("_url"):
            name_ = name.removesuffix("_url")
            raise invalid(name, f"{name_} takes bytes, {name_}_url a data URI")
        read[name] = picture_in(name, value, offer)
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
    # An unknown name is refused, with null too: its field would not be cleared.
    fields = {name: v for name, v in fields.items() if v is not None or name not in KNOWN}
    if "image" not in fields and "image_url" not in fields:
        for name in OF_A_PICTURE:
            if name not in message:
                fields.pop(name, None)
    return fields


def names(fields: Mapping[str, Any]) -> dict[str, str]:
    """The names by which a client sent its pictures, by those that they have further in."""
    return {f"{name}_url": name for name in ("image", "mask") if name in fields}


def left_behind(kept: Mapping[str, Any], message: Mapping[str, Any]) -> tuple[str, ...]:
    """Warnings about what is kept no longer, and was not cleared by its own name."""
    fields = merged(kept, message)
    gone = kept.keys() - fields.keys() - message.keys()
    replaced = {other for name in PICTURES if name in fields for other in SUPERSEDES[name]}
    return tuple(
        f"{name} of an earlier message is left behind: it means nothing without a picture."
        if name in OF_A_PICTURE
        else f"{name} of an earlier message is left behind: this one gives the size otherwise."
        for name in sorted(gone - {"image", "image_url"} - replaced)
    )


def parse(fields: Mapping[str, Any], offer: Offer) -> Wanted:
    """What fields mean, after `with_pictures_looked_at`. Raises `InvalidRequest`, field by field,
    each by the client's name for it."""
    try:
        return _parse(fields, offer)
    except InvalidRequest as refused:
        raise renamed(refused, names(fields)) from None


def _parse(fields: Mapping[str, Any], offer: Offer) -> Wanted:
    own = RealtimeInput.model_fields
    try:
        ours = RealtimeInput.model_validate({name: fields[name] for name in own if name in fields})
    except ValidationError as failure:
        raise InvalidRequest(problems_of(failure)) from None
    others = {name: value for name, value in fields.items() if name not in own}
    for picture in ("image", "mask"):
        if picture in fields and f"{picture}_url" in fields:
            raise invalid(picture, f"give either {picture} or {picture}_url, not both")
    request = parse_request(
        others,
        offer,
        image=ours.image_url if ours.image is None else ours.image,
        mask=ours.mask_url if ours.mask is None else ours.mask,
        full_quality=ours.full_quality,
        shown=WITH_PREVIEWS if ours.stream_previews else PICTURES_ALONE,
    )
    if ours.stream_previews and not request.preview_steps:
        why = "preview_every is 0" if request.preview.every == 0 else "there is but one step"
        warning = f"stream_previews has no effect: {why}."
        request = replace(request, warnings=(*request.warnings, warning))
    elif ours.stream_previews and request.num_images > 1:
        warning = "stream_previews is for the first picture; the others have no previews."
        request = replace(request, warnings=(*request.warnings, warning))
    return Wanted(request, ours.image_encoding == "data_uri", fields)


class Codec(Protocol):
    """How the messages of one connection are written."""

    def without_effect(self, wanted: Wanted) -> tuple[str, ...]:
        """Warnings about what this way of writing leaves undone."""
        ...

    def decode(self, frame: Frame) -> dict[str, Any]:
        """Raises `InvalidMessage`."""
        ...

    def encode(self, result: Result, dropped: int) -> list[Frame]:
        """`dropped` counts what was given up since the result before: messages that newer ones
        overtook, and results that the client did not come to read."""
        ...


class Msgpack:
    """`/realtime`: a binary frame a message, both ways."""

    def without_effect(self, wanted: Wanted) -> tuple[str, ...]:
        return ()

    def decode(self, frame: Frame) -> dict[str, Any]:
        if isinstance(frame, str):
            raise InvalidMessage("Send msgpack in binary frames; this was a text frame.")
        return _fields(packed.loads(frame))

    def encode(self, result: Result, dropped: int) -> list[Frame]:
        def image(picture: Picture) -> dict[str, Any]:
            return image_json(picture) if result.wanted.data_uri else _image_bytes(picture)

        images = [image(picture) for picture in result.pictures]
        packed: bytes = msgpack.packb(
            {"image": images[0], "images": images, **_fields_of(result, dropped)}
        )
        return [packed]


class Json:
    """`/ws`: JSON text in. Out one text frame with data URIs, or with `binary` a text frame and
    then a binary frame for each picture."""

    def __init__(self, binary: bool) -> None:
        self._binary = binary

    def without_effect(self, wanted: Wanted) -> tuple[str, ...]:
        if "image_encoding" not in wanted.fields or wanted.data_uri != self._binary:
            return ()
        how = "bytes with" if self._binary else "data URIs without"
        return (f"image_encoding has no effect on /ws: pictures are {how} ?binary=1.",)

    def decode(self, frame: Frame) -> dict[str, Any]:
        if isinstance(frame, bytes):
            raise InvalidMessage("Send JSON in text frames; this was a binary frame.")
        try:
            return _fields(json_text.loads(frame))
        except json_text.NotRead as reason:
            raise InvalidMessage(f"The message {reason}.") from None

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
    return fields | warnings_json(result.warnings)


def _image_described(picture: Picture) -> dict[str, Any]:
    return {
        "content_type": picture.content_type,
        "width": picture.width,
        "height": picture.height,
    }


def _image_bytes(picture: Picture) -> dict[str, Any]:
    return {"content": picture.data, **_image_described(picture)}
