"""The OpenAI images API: what its clients ask for."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from glimpse.errors import ModelNotFound, invalid
from glimpse.fields import repeated, validate
from glimpse.protocols.form import Part
from glimpse.request import (
    DEFAULT_OUTPUT_QUALITY,
    DEFAULT_STRENGTH,
    HINTS,
    MAX_PICTURES,
    MAX_PROMPT_LENGTH,
    GenerationInput,
    GenerationRequest,
    Offer,
    PictureFormat,
    max_steps,
    size_of_aspect,
)
from glimpse.request import IGNORED_FIELDS as FALS_IGNORED_FIELDS
from glimpse.request_warnings import Shown

Operation = Literal["image_generation", "image_edit"]

# Fields of OpenAI's own that change nothing here: values that ask for what is done anyway, and why
# any other has no effect. Who the user is changes no picture elsewhere either.
NOT_DONE: dict[str, tuple[tuple[str, ...], str]] = {
    "complexity": ((), "no picture is made of drawing commands"),
    "input_fidelity": (("low",), "strength says how much of the picture is kept"),
    "moderation": ((), "neither texts nor pictures are moderated"),
    "style": ((), "the prompt alone says the style"),
}
IGNORED_FIELDS = frozenset(NOT_DONE) | {"safety_identifier", "user"}
IGNORED = IGNORED_FIELDS | FALS_IGNORED_FIELDS

# Names that programs have written into them; they mean the model that is served.
OPENAI_MODEL = re.compile(r"(dall-e|gpt-image|chatgpt-image)-[\w.-]+")

# How many times the model's own number of steps is run.
STEPS_BY_QUALITY = {"low": 0.5, "medium": 1, "high": 2, "xhigh": 3, "max": 4}
QUALITY_BY_NAME = {"auto": "medium", "standard": "medium", "hd": "high"}

# Pictures of these come as addresses, unless the client says otherwise.
MODELS_WITH_URLS = ("dall-e-2", "dall-e-3")

SIZES = ("image_size", "width", "height")
SIDE = re.compile(r"image_size\[(width|height)\]")
SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
MOST_OBLONG = 3.0  # width to height, or height to width
PARTIAL_SIDE = 1024  # pixels; a PNG of noise is then just under what a decoder's answer may have

SHOWN = Shown(
    no_previews="partial_images says how many there are, in a stream",
    no_progress="a stream tells of partial_images alone",
)
PICTURES = ("image", "mask")  # the files of a form
FIELD_NAMES: dict[Operation, dict[str, str]] = {  # by the names that they have further in
    "image_generation": {},
    "image_edit": {"image_url": "image", "mask_url": "mask"},
}


class ImagesInput(BaseModel):
    """What both routes take, as a client sends it; an edit has pictures beside it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT_LENGTH, description="What to draw.")
    model: str | None = Field(
        None, description="A name of `GET /v1/models`, or OpenAI's of an image model."
    )
    n: int = Field(1, ge=1, le=MAX_PICTURES, description="Pictures; partial ones are of the first.")
    size: str = Field(
        "auto",
        description="WIDTHxHEIGHT: the aspect, from 1:3 to 3:1, at the model's native area.",
    )
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] = Field(
        "auto", description="Half, once, twice, three or four times the model's steps."
    )
    background: Literal["auto", "opaque", "transparent"] = Field(
        "auto", description="Pictures are opaque here; transparent is refused."
    )
    output_format: PictureFormat = "png"
    output_compression: int | None = Field(
        None, ge=0, le=100, description="The quality of JPEG and WebP; 100 is the best."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None,
        description="url: a data URI; not in a stream. Left out, it is url for dall-e-2 and "
        "dall-e-3, and b64_json for all others.",
    )
    stream: bool = False
    partial_images: int = Field(0, ge=0, le=3, description="With `stream`.")


class ExtendedInput(ImagesInput, GenerationInput):
    """And the fields of every other door, by their own names: OpenAI's clients send them with
    `extra_body`. Where a field means the same as one of OpenAI's, one of the two is taken."""


FORM_FIELDS = {*PICTURES, *ExtendedInput.model_fields, *IGNORED}
NATIVE = GenerationInput.model_fields.keys() - ImagesInput.model_fields.keys()


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """What is wanted. `aspect` is width to height, None where the client leaves it open. `native`
    are fields of `parse_request` that the client gave by their own names, `given` all that it gave.
    `transparent`: the picture has parts that are, and they are no mask.
    """

    operation: Operation
    prompt: str
    n: int
    aspect: float | None
    quality: str
    output_format: str
    output_quality: int
    as_url: bool
    stream: bool
    partial_images: int
    image: bytes | None = None
    mask: bytes | None = None
    native: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)
    transparent: bool = False

    @property
    def masks_itself(self) -> bool:
        """Whether what is fully transparent in the picture of an edit is the mask, where there is
        no other: so it is for DALL-E 2, and for no later model."""
        return self.mask is None and self.given.get("model") == "dall-e-2"


def parse_generation(fields: Mapping[str, Any], models: Collection[str]) -> ImagesRequest:
    """What the body of `/v1/images/generations` asks for.

    Raises `InvalidRequest`; `ModelNotFound` for a name that is not one of `models`, nor OpenAI's.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    wanted = validate(ExtendedInput, given, IGNORED, hints=HINTS)
    return _request("image_generation", wanted, given, models)


def parse_edit(parts: Iterable[Part], models: Collection[str]) -> ImagesRequest:
    """What the form of `/v1/images/edits` asks for.

    Raises the same as `parse_generation`. The mask is left as the client sent it.
    """
    texts: dict[str, Any] = {}
    pictures: dict[str, bytes] = {}
    for name, value in parts:
        name = name.removesuffix("[]")  # of the members of a list, as which clients send pictures
        known = name in FORM_FIELDS or SIDE.fullmatch(name)
        if known and (name in texts or name in pictures):
            raise repeated(name)
        if name not in PICTURES:
            if known and isinstance(value, bytes):
                raise invalid(name, "must be text, not a file")
            texts[name] = value
        elif isinstance(value, bytes):
            pictures[name] = value
        else:
            raise invalid(name, "must be a file")
    texts = _with_sides(texts)
    wanted = validate(ExtendedInput, texts, IGNORED, hints=HINTS, text=True)
    for name, url in (("image", wanted.image_url), ("mask", wanted.mask_url)):
        if url is not None:
            raise invalid(name, f"comes as a file here, not in {name}_url")
    if "image" not in pictures:
        raise invalid("image", "Field required")
    asked = _request("image_edit", wanted, texts, models)
    return replace(asked, image=pictures["image"], mask=pictures.get("mask"))


def _with_sides(texts: Mapping[str, Any]) -> dict[str, Any]:
    """A form's fields. `image_size[width]` and `[height]`, as clients write an object, are one."""
    sides = {name: match[1] for name in texts if (match := SIDE.fullmatch(name))}
    joined = {name: value for name, value in texts.items() if name not in sides}
    if sides:
        if "image_size" in joined:
            raise repeated("image_size")
        joined["image_size"] = {side: texts[name] for name, side in sides.items()}
    return joined


def _request(
    operation: Operation,
    wanted: ExtendedInput,
    given: Mapping[str, Any],
    models: Collection[str],
) -> ImagesRequest:
    """`given` has the fields as they came, also those that are ignored."""
    if wanted.model is not None and wanted.model not in models:
        if not OPENAI_MODEL.fullmatch(wanted.model):
            raise no_such_model(models)
    if wanted.background == "transparent":
        raise invalid("background", "pictures are opaque here; leave it out")
    if wanted.partial_images and not wanted.stream:
        raise invalid("partial_images", "has a meaning only with stream; leave it out")
    if wanted.stream and wanted.response_format == "url":
        raise invalid("response_format", "is b64_json in a stream; leave it out")
    compression = wanted.output_compression
    if wanted.output_format == "png" and compression not in (None, 100):
        raise invalid("output_compression", "has a meaning only with jpeg or webp; leave it out")
    _refuse_both(given, wanted)
    as_url = wanted.response_format == "url"
    if wanted.response_format is None and not wanted.stream:
        as_url = wanted.model in MODELS_WITH_URLS
    return ImagesRequest(
        operation=operation,
        prompt=wanted.prompt,
        n=wanted.num_images if "num_images" in given else wanted.n,
        aspect=_aspect(wanted.size),
        quality=QUALITY_BY_NAME.get(wanted.quality, wanted.quality),
        output_format=wanted.output_format,
        output_quality=DEFAULT_OUTPUT_QUALITY if compression is None else compression,
        as_url=as_url,
        stream=wanted.stream,
        partial_images=wanted.partial_images,
        native=wanted.model_dump(include=NATIVE & wanted.model_fields_set),
        given={**given, **wanted.model_dump(include=wanted.model_fields_set)},
    )


def _refuse_both(given: Mapping[str, Any], wanted: ExtendedInput) -> None:
    if "n" in given and "num_images" in given:
        raise invalid("num_images", "means the same as n; give one of them")
    sizes = [name for name in SIZES if name in given]
    if sizes and wanted.size != "auto":
        raise invalid(sizes[0], "means the same as size; give one of them")


def _aspect(size: str) -> float | None:
    if size == "auto":
        return None
    sides = SIZE.fullmatch(size)
    aspect = int(sides[1]) / int(sides[2]) if sides else 0.0
    if not 1 / MOST_OBLONG <= aspect <= MOST_OBLONG:
        raise invalid("size", "must be auto or WIDTHxHEIGHT, with an aspect from 1:3 to 3:1")
    return aspect


def with_holes(asked: ImagesRequest) -> ImagesRequest:
    """An edit without a mask, of a picture that has fully transparent parts."""
    if asked.masks_itself:
        return replace(asked, mask=asked.image)
    return replace(asked, transparent=True)


def generation_fields(asked: ImagesRequest, offer: Offer) -> dict[str, Any]:
    """The fields of `parse_request` that say the same; the pictures of an edit go beside them."""
    fields: dict[str, Any] = {
        **{name: value for name, value in asked.given.items() if name in FALS_IGNORED_FIELDS},
        "prompt": asked.prompt,
        "num_images": asked.n,
        "num_inference_steps": _steps(asked, offer),
        "output_format": asked.output_format,
    }
    if asked.aspect is not None and not asked.native.keys() & set(SIZES):
        fields["width"], fields["height"] = size_of_aspect(asked.aspect, offer)
    if asked.mask is not None:
        fields["strength"] = 1.0
    return {**fields, **asked.native}


def _steps(asked: ImagesRequest, offer: Offer) -> int:
    steps = steps_of_quality(asked, offer)
    # Without a mask only a part of the steps is run for an input picture, and one must be left.
    starts_from_picture = asked.image is not None or "image_url" in asked.native
    least = math.ceil(1 / DEFAULT_STRENGTH) if starts_from_picture and asked.mask is None else 1
    scheduler = asked.native.get("scheduler", offer.default_scheduler)
    return min(max(steps, least), max_steps(scheduler))


def steps_of_quality(asked: ImagesRequest, offer: Offer) -> int:
    """By the quality alone, before the limits."""
    return round(offer.default_steps * STEPS_BY_QUALITY[asked.quality])


def with_partials(request: GenerationRequest, asked: ImagesRequest) -> GenerationRequest:
    """The request with what no field of `parse_request` can say: partial pictures by their number,
    encoded like the finished one, and how well that is encoded.
    """
    previews = replace(
        request.preview,
        every=0,
        count=asked.partial_images,
        format=asked.output_format,
        size=PARTIAL_SIDE,
    )
    return replace(request, preview=previews, output_quality=asked.output_quality)


def no_such_model(models: Collection[str]) -> ModelNotFound:
    return ModelNotFound(f"No such model; this server has {', '.join(models)}.")
