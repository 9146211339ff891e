"""The OpenAI images API: warnings about its own fields."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from glimpse.fields import field_of
from glimpse.protocols.openai import (
    FIELD_NAMES,
    NOT_DONE,
    OPENAI_MODEL,
    ImagesRequest,
    steps_of_quality,
)
from glimpse.request import GenerationRequest, Offer


def with_warnings(
    request: GenerationRequest, asked: ImagesRequest, offer: Offer
) -> GenerationRequest:
    """The request of `with_partials`, with what of OpenAI's own fields is not done. Fields that the
    client did not give, such as steps that follow from the quality, have no warnings."""
    known = {*asked.given, *FIELD_NAMES["image_edit"]}
    native = [each for each in request.warnings if field_of(each) in known]
    found = (*_without_effect(request, asked, offer), *_not_done(asked.given))
    return replace(request, warnings=(*native, *found))


def _without_effect(
    request: GenerationRequest, asked: ImagesRequest, offer: Offer
) -> Iterator[str]:
    given = asked.given
    if OPENAI_MODEL.fullmatch(given.get("model", "")):
        yield "model is not served here; the one of GET /v1/models made the picture."
    made = f"{request.width}x{request.height}"
    if given.get("size", "auto") not in ("auto", made):
        yield f"size gives the aspect alone; at the model's native area the picture is {made}."
    if given.get("quality", "auto") != "auto":
        if "num_inference_steps" in asked.native:
            yield "quality has no effect: num_inference_steps is given."
        elif request.num_inference_steps != steps_of_quality(asked, offer):
            yield f"quality is held to {request.num_inference_steps} steps, a limit of the model."
    if asked.transparent:
        yield (
            "mask is left out: what is transparent in image counts as white, and the whole picture "
            "is drawn again. With the model dall-e-2 it would be the mask."
        )
    if asked.partial_images > len(request.preview_steps):
        yield f"partial_images are {len(request.preview_steps)}, as so few steps are run."
    if request.preview_steps and request.num_images > 1:
        yield "partial_images are of the first picture; the others have none."


def _not_done(given: Mapping[str, Any]) -> Iterator[str]:
    for name, (harmless, because) in NOT_DONE.items():
        value = given.get(name)
        if value is not None and value not in harmless:
            yield f"{name} has no effect: {because}."
