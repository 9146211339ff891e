"""Warnings: what a client asked for and does not get. A sentence each, which begins with the name
of its field."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glimpse.ports import EncodedText
    from glimpse.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Shown:
    """Whether a door shows previews and progress beside the finished pictures. `no_previews` and
    `no_progress` say why it shows none."""

    no_previews: str | None = None
    no_progress: str | None = None


STREAM = Shown()
ANSWER_ALONE = Shown(*["the answer has the finished pictures alone; use /stream"] * 2)

HOW_PREVIEWS_LOOK = ("preview_format", "preview_quality", "preview_size")


@dataclass(frozen=True, slots=True)
class _NotDone:
    """A field of fal's apps that changes nothing here. `harmless` values ask for what is done
    anyway."""

    harmless: Callable[[Any, Mapping[str, Any], "GenerationRequest"], bool]
    because: str


def _says_no(value: Any, *_: Any) -> bool:
    """As JSON or as a form has it."""
    return str(value).lower() in ("false", "0", "no", "off")


def _is(*values: Any) -> Callable[[Any, Mapping[str, Any], "GenerationRequest"], bool]:
    return lambda value, fields, request: any(value == each for each in values)


NOT_DONE: dict[str, _NotDone] = {
    "acceleration": _NotDone(_is("none"), "every step is computed in full"),
    "enable_prompt_expansion": _NotDone(_says_no, "the prompt is used as it is"),
    "enable_safety_checker": _NotDone(_says_no, "no picture is checked"),
    "expand_prompt": _NotDone(_says_no, "the prompt is used as it is"),
    "format": _NotDone(
        lambda value, fields, request: bool(value == request.output_format), "use output_format"
    ),
    "safety_checker_version": _NotDone(
        lambda value, fields, request: _says_no(fields.get("enable_safety_checker")),
        "no picture is checked",
    ),
    "safety_tolerance": _NotDone(_is("6", 6), "no picture is checked"),
    # true: the picture is in the answer. Elsewhere false stores it; its `url` works either way.
    "sync_mode": _NotDone(_is(True, False, "true", "false"), "pictures are always in the answer"),
}


def not_done(fields: Mapping[str, Any], request: "GenerationRequest") -> Iterator[str]:
    """Fields that change nothing here, where their value asks for what is not done."""
    for name, field in NOT_DONE.items():
        value = fields.get(name)
        if value is not None and not field.harmless(value, fields, request):
            yield f"{name} has no effect: {field.because}."


def without_effect(
    fields: Mapping[str, Any], request: "GenerationRequest", shown: Shown
) -> Iterator[str]:
    """`fields` are the client's, and valid; `request` is what was made of them."""
    given = {name for name, value in fields.items() if value is not None}
    guidance_scale = fields.get("guidance_scale")
    if fields.get("negative_prompt") and request.guidance_scale <= 1:
        yield "negative_prompt has no effect: guidance is off, as guidance_scale is not above 1."
    if guidance_scale is not None and 0 < guidance_scale < 1:
        yield "guidance_scale is below 1, which turns guidance off, as 1 does."
    yield from _strength(given, request)
    yield from _previews(fields, given, request, shown)
    if request.progress and shown.no_progress is not None:
        yield f"progress has no effect: {shown.no_progress}."
    elif request.progress and request.num_images > 1:
        yield "progress is told of the first picture alone."


def _strength(given: set[str], request: "GenerationRequest") -> Iterator[str]:
    if request.image is None:
        return
    if request.num_inference_steps * request.strength == request.steps:
        return
    run = f"rounded down to {request.steps} of {request.num_inference_steps} steps"
    if "strength" in given:
        yield f"strength is {run}."
    elif "num_inference_steps" in given:
        yield f"num_inference_steps is {run}, by the default strength of {request.strength}."


def cut_at_the_sides(request: "GenerationRequest", unit: int) -> Iterator[str]:
    """Of a picture and its mask, whose aspect is off that of the size by `unit` pixels or more."""
    for name, picture in (("image_url", request.image), ("mask_url", request.mask)):
        if picture is None:
            continue
        scale = max(request.width / picture.width, request.height / picture.height)
        beyond = scale * picture.width - request.width, scale * picture.height - request.height
        if max(beyond) >= unit:
            side = "left and right" if beyond[0] > beyond[1] else "top and bottom"
            yield f"{name} is cut at the {side}: its aspect is not that of the size."


def _previews(
    fields: Mapping[str, Any], given: set[str], request: "GenerationRequest", shown: Shown
) -> Iterator[str]:
    looks = [name for name in HOW_PREVIEWS_LOOK if name in given]
    every = fields.get("preview_every")
    because = shown.no_previews
    if because is None and every == 0:
        because = "preview_every is 0"
    if because is None and not request.preview_steps:
        because = "one step is run, and a preview comes before the last"
    if because is not None:
        for name in (["preview_every"] if every else []) + looks:
            yield f"{name} has no effect: {because}."
        return
    if every and request.num_images > 1:
        yield "preview_every is for the first picture; the others have no previews."
    longest = max(request.width, request.height)
    if "preview_size" in given and request.preview.size > longest:
        yield f"preview_size is more than the picture has; previews are {longest} pixels long."


def cut_texts(text: "EncodedText") -> Iterator[str]:
    """Texts that the text encoders did not read to their end."""
    cuts = {"prompt": text.prompt_cut, "negative_prompt": text.negative_prompt_cut}
    for name, cut in cuts.items():
        if cut:
            tokens = "its last token has" if cut == 1 else f"its last {cut} tokens have"
            yield f"{name} is longer than the text encoders read: {tokens} no effect."
