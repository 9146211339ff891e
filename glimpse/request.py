"""GenerationRequest: what may be asked for. Every door parses into it."""

import math
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from glimpse.errors import invalid
from glimpse.fields import validate
from glimpse.input_pictures import data_uri
from glimpse.input_pictures.inspection import InputPicture, inspect
from glimpse.input_pictures.masks import MaskOf
from glimpse.request_warnings import (
    NOT_DONE,
    STREAM,
    Shown,
    cut_at_the_sides,
    not_done,
    without_effect,
)

Scheduler = Literal["euler", "euler_ancestral", "dpmpp_2m", "ddim", "unipc", "lcm"]
PictureFormat = Literal["jpeg", "png", "webp"]
SizePreset = Literal[
    "square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"
]

# Width to height. A preset names an aspect; the area is the model's own.
PRESET_ASPECTS: dict[str, float] = {
    "square_hd": 1.0,
    "square": 1.0,
    "portrait_4_3": 3 / 4,
    "portrait_16_9": 9 / 16,
    "landscape_4_3": 4 / 3,
    "landscape_16_9": 16 / 9,
}

# Fields that fal apps commonly take and that change nothing here. They are taken, so that a client
# written for such an app needs no change; a value that asks for what is not done has a warning.
IGNORED_FIELDS = frozenset(NOT_DONE)

REQUEST_ID = r"[\x21-\x7e]{1,64}"  # visible ASCII: it goes into headers and log lines
MAX_SEED = 2**32 - 1
MAX_STEPS = 100
MAX_PICTURES = 4  # of one request
MAX_PROMPT_LENGTH = 2000  # characters
LCM_MAX_STEPS = 50  # the grid that LCM models are distilled on; diffusers' original_inference_steps
MIN_SIDE_LATENTS = 4
DEFAULT_STRENGTH = 0.6
DEFAULT_OUTPUT_QUALITY = 95  # of JPEG and WebP; 100 is the best


class ImageSize(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    width: int = Field(ge=1, le=16384)
    height: int = Field(ge=1, le=16384)


# Told apart by type, so that an error is about the one that was meant.
PresetOrSize = Annotated[
    Annotated[SizePreset, Tag("preset")] | Annotated[ImageSize, Tag("size")],
    Discriminator(lambda value: "preset" if isinstance(value, str) else "size"),
]


class GenerationInput(BaseModel):
    """The input as a client sends it, before the model's defaults are filled in."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT_LENGTH, description="What to draw.")
    negative_prompt: str | None = Field(
        None, max_length=MAX_PROMPT_LENGTH, description="What to avoid; empty means none."
    )
    num_inference_steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    guidance_scale: float | None = Field(
        None, ge=0, le=20, description="Above 1, classifier-free guidance is used."
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="null: random, and told.")
    image_size: PresetOrSize | None = Field(
        None,
        description="A preset chooses the aspect, at the model's native area. "
        "Otherwise the exact size; or use `width` and `height`.",
    )
    width: int | None = Field(None, ge=1, le=16384)
    height: int | None = Field(None, ge=1, le=16384)
    num_images: int = Field(1, ge=1, le=MAX_PICTURES, description="A job each, with seed, seed+1 …")
    image_url: str | None = Field(
        None, description="A picture to start from, as a data URI: image to image."
    )
    mask_url: str | None = Field(
        None,
        description="With `image_url`: inpainting. A picture, as a data URI: white is repainted, "
        "black is kept.",
    )
    strength: float | None = Field(
        None, ge=0, le=1, description="With `image_url`: int(steps x strength) steps are run."
    )
    scheduler: Scheduler | None = None
    preview_every: int = Field(5, ge=0, le=100, description="In steps; 0: no previews.")
    preview_format: Literal["jpeg", "webp"] = "jpeg"
    preview_quality: int = Field(70, ge=1, le=100)
    preview_size: int = Field(512, ge=16, le=4096, description="Longest side, in pixels.")
    output_format: PictureFormat = "jpeg"
    progress: bool = Field(False, description="An event for every step too.")
    request_id: str | None = Field(None, pattern=f"^{REQUEST_ID}$")

    @model_validator(mode="after")
    def _one_size(self) -> "GenerationInput":
        if self.image_size is not None and (self.width, self.height) != (None, None):
            raise ValueError("give either image_size, or width and height, not both")
        return self


# Elsewhere -1 asks for a random seed.
HINTS = {"seed": "for a random seed send null, or leave it out"}


@dataclass(frozen=True, slots=True)
class Offer:
    """What a deployment's model can make, and what its deployer allows.

    Sizes are in pixels. `size_multiple` is the model's latent factor: 8 for SDXL.
    """

    default_width: int
    default_height: int
    default_steps: int
    default_guidance_scale: float
    default_scheduler: str
    size_multiple: int
    max_side: int
    max_pixels: int
    max_input_bytes: int
    max_input_pixels: int


@dataclass(frozen=True, slots=True)
class PreviewSpec:
    """How previews are wanted: every so many steps, so encoded. `size`: longest side, pixels.

    With a `count` there are so many instead, spread over the steps.
    """

    every: int
    format: str
    quality: int
    size: int
    count: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation, with every value decided. Without `full_quality` the TinyVAE reads the input
    picture and makes the final ones: blurrier, and several times sooner. `warnings`: what was asked
    for and is not done, told with the pictures."""

    request_id: str
    prompt: str
    negative_prompt: str | None
    num_inference_steps: int
    guidance_scale: float
    seed: int
    width: int
    height: int
    num_images: int
    scheduler: str
    preview: PreviewSpec
    output_format: str
    progress: bool
    image: InputPicture | None = None
    mask: InputPicture | None = None
    mask_of: MaskOf = "white"
    strength: float = 1.0
    full_quality: bool = True
    output_quality: int = DEFAULT_OUTPUT_QUALITY
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def steps(self) -> int:
        """The steps that are run: fewer than asked for with an input picture."""
        if self.image is None:
            return self.num_inference_steps
        return int(self.num_inference_steps * self.strength)

    @property
    def final(self) -> PreviewSpec:
        """The final picture, where the decoder of previews makes it."""
        return PreviewSpec(0, self.output_format, self.output_quality, max(self.width, self.height))

    @property
    def seeds(self) -> tuple[int, ...]:
        """A seed for each picture; past the largest seed they go on at 0."""
        return tuple((self.seed + i) % (MAX_SEED + 1) for i in range(self.num_images))

    @property
    def progress_steps(self) -> frozenset[int]:
        """Steps (from 1) that are told of: all, or none."""
        return frozenset(range(1, self.steps + 1)) if self.progress else frozenset()

    @property
    def preview_steps(self) -> frozenset[int]:
        """Steps (from 1) whose estimate is shown: the first and every multiple before the last; or
        so many before the last, evenly spread.
        """
        if self.preview.count is not None:
            count = min(self.preview.count, self.steps - 1)
            return frozenset(self.steps * (i + 1) // (count + 1) for i in range(count))
        if self.preview.every == 0:
            return frozenset()
        return frozenset({1, *range(self.preview.every, self.steps, self.preview.every)}) - {
            self.steps
        }


def new_request_id() -> str:
    return uuid.uuid4().hex


def parse_request(
    fields: Mapping[str, Any],
    offer: Offer,
    *,
    image: InputPicture | None = None,
    mask: InputPicture | None = None,
    mask_of: MaskOf = "white",
    full_quality: bool = True,
    shown: Shown = STREAM,
) -> GenerationRequest:
    """The one way from a client's fields to a request. `image` and `mask` are pictures of a door
    that has them as bytes, and not in `image_url` and `mask_url`. Where no previews are `shown`,
    none are made.

    Raises `InvalidRequest`, field by field.
    """
    wanted = validate(GenerationInput, fields, IGNORED_FIELDS, hints=HINTS)
    if wanted.image_url is not None:
        image = picture_in("image_url", wanted.image_url, offer)
    if wanted.mask_url is not None:
        mask = picture_in("mask_url", wanted.mask_url, offer)
    if image is not None and mask is not None and mask_of == "transparent":
        _check_transparent_mask(mask, image)
    width, height = _size(wanted, offer, image)
    steps = _given(wanted.num_inference_steps, offer.default_steps)
    scheduler = _given(wanted.scheduler, offer.default_scheduler)
    if steps > max_steps(scheduler):
        raise invalid(
            "num_inference_steps", f"{scheduler} takes at most {max_steps(scheduler)} steps"
        )
    strength = 1.0
    if image is not None:
        strength = _given(wanted.strength, DEFAULT_STRENGTH)
        if int(steps * strength) < 1:
            raise invalid(
                "strength",
                f"{steps} steps at this strength leave none to run; "
                f"use a strength of at least {math.ceil(100 / steps) / 100} or more steps",
            )
    else:
        for name, value in (("mask_url", mask), ("strength", wanted.strength)):
            if value is not None:
                raise invalid(name, "has a meaning only with image_url; leave it out")
    guidance_scale = float(_given(wanted.guidance_scale, offer.default_guidance_scale))
    request = GenerationRequest(
        request_id=wanted.request_id or new_request_id(),
        prompt=wanted.prompt,
        negative_prompt=(wanted.negative_prompt or None) if guidance_scale > 1 else None,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        seed=_given(wanted.seed, secrets.randbelow(MAX_SEED + 1)),
        width=width,
        height=height,
        num_images=wanted.num_images,
        scheduler=scheduler,
        preview=PreviewSpec(
            wanted.preview_every if shown.no_previews is None else 0,
            wanted.preview_format,
            wanted.preview_quality,
            wanted.preview_size,
        ),
        output_format=wanted.output_format,
        progress=wanted.progress,
        image=image,
        mask=mask,
        mask_of=mask_of,
        strength=strength,
        full_quality=full_quality,
    )
    warnings = (
        *_smaller_than_wanted(wanted, offer),
        *cut_at_the_sides(request, offer.size_multiple),
        *without_effect(fields, request, shown),
        *not_done(fields, request),
    )
    return replace(request, warnings=warnings)


def _smaller_than_wanted(wanted: GenerationInput, offer: Offer) -> Iterator[str]:
    if isinstance(wanted.image_size, str):
        aspect = PRESET_ASPECTS[wanted.image_size]
        if shrinking(*_native_size(aspect, offer), offer) < 0.99:
            yield "image_size is made smaller than the model's native area, within the limits."


def max_steps(scheduler: str) -> int:
    return LCM_MAX_STEPS if scheduler == "lcm" else MAX_STEPS


T = TypeVar("T")


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _size(wanted: GenerationInput, offer: Offer, image: InputPicture | None) -> tuple[int, int]:
    if image is not None and (wanted.image_size, wanted.width, wanted.height) == (None,) * 3:
        return size_of_aspect(image.width / image.height, offer)
    if isinstance(wanted.image_size, str):
        return size_of_aspect(PRESET_ASPECTS[wanted.image_size], offer)
    if wanted.image_size is not None:
        width, height = wanted.image_size.width, wanted.image_size.height
    else:
        width = _given(wanted.width, offer.default_width)
        height = _given(wanted.height, offer.default_height)
    near = nearest_size(width, height, offer)
    if (width, height) != near:
        raise invalid(
            "image_size" if wanted.image_size else "width" if width != near[0] else "height",
            f"sides must be multiples of {offer.size_multiple}, at least "
            f"{MIN_SIDE_LATENTS * offer.size_multiple}, at most {offer.max_side}, and together at "
            f"most {offer.max_pixels} pixels; the nearest valid size is {near[0]}x{near[1]}",
        )
    return width, height


def _check_transparent_mask(mask: InputPicture, image: InputPicture) -> None:
    if not mask.may_be_transparent:
        raise invalid(mask.field, "has no alpha channel; what is fully transparent is edited")
    if (mask.width, mask.height) != (image.width, image.height):
        raise invalid(mask.field, "must be as wide and as high as the picture")


def size_of_aspect(aspect: float, offer: Offer) -> tuple[int, int]:
    """The valid size nearest to an aspect, width to height, at the model's native area."""
    return nearest_size(*_native_size(aspect, offer), offer)


def _native_size(aspect: float, offer: Offer) -> tuple[float, float]:
    area = offer.default_width * offer.default_height
    return math.sqrt(area * aspect), math.sqrt(area / aspect)


def shrinking(width: float, height: float, offer: Offer) -> float:
    """The factor, at most 1, that brings a size within the limits."""
    return min(
        1.0, math.sqrt(offer.max_pixels / (width * height)), offer.max_side / max(width, height)
    )


def nearest_size(width: float, height: float, offer: Offer) -> tuple[int, int]:
    """The valid size nearest to the one given; the aspect is kept where it must shrink."""
    multiple = offer.size_multiple
    shrink = shrinking(width, height, offer)

    def snap(side: float) -> int:
        cells = math.floor(side * shrink / multiple + 0.5)
        return max(MIN_SIDE_LATENTS, min(cells, offer.max_side // multiple)) * multiple

    near_width, near_height = snap(width), snap(height)
    while near_width * near_height > offer.max_pixels:  # rounding up may have gone past the limit
        if near_width >= near_height:
            near_width -= multiple
        else:
            near_height -= multiple
    return near_width, near_height


def picture_in(field: str, value: object, offer: Offer) -> InputPicture:
    """An encoded picture, as bytes or as a data URI, that was looked at. Raises `InvalidRequest`
    about the field."""
    if isinstance(value, bytes):
        data_uri.check_bytes(len(value), field, offer.max_input_bytes)
    else:
        value = data_uri.decoded(value, field, offer.max_input_bytes)
    return inspect(value, field, offer.max_input_pixels)
