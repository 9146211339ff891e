"""The OpenAI images API: POST /v1/images/generations and /v1/images/edits, GET /v1/models."""

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glimpse.event_log import Event
from glimpse.http import errors
from glimpse.http.body import read_form, read_json_object
from glimpse.http.errors import OPENAI_ERROR
from glimpse.http.generate import EventStream, final_event
from glimpse.http.leaving import unless_gone
from glimpse.http.service import Service
from glimpse.input_pictures.broken import TAKEN
from glimpse.protocols import openai, openai_answers, sse
from glimpse.protocols.openai import ExtendedInput, ImagesRequest
from glimpse.protocols.openai_warnings import with_warnings


def _schema(route: str, media_type: str, pictures: dict[str, str]) -> dict[str, Any]:
    """Of a route's input; `pictures` are the files beside the fields, by name."""
    path, kind = (each.replace("/", "~1") for each in (f"/v1{route}", media_type))
    # The schema's own definitions, seen from the root of the document.
    definition = f"#/paths/{path}/post/requestBody/content/{kind}/schema/$defs/{{model}}"
    schema = ExtendedInput.model_json_schema(ref_template=definition)
    for name, description in pictures.items():
        del schema["properties"][f"{name}_url"]
        field = {"type": "string", "format": "binary", "description": description}
        schema["properties"][name] = field
    if pictures:
        schema["required"].append("image")
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


GENERATIONS, EDITS = "/images/generations", "/images/edits"
GENERATION_SCHEMA = _schema(GENERATIONS, "application/json", {})
EDIT_SCHEMA = _schema(
    EDITS,
    "multipart/form-data",
    {
        "image": f"The picture to start from: {TAKEN}.",
        "mask": "As large as the picture. What is fully transparent in it is painted anew, the "
        "rest kept. Left out: the whole picture is drawn again from what it shows.",
    },
)
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, sse.CONTENT_TYPE: {}}},
    **errors.documented(*errors.OF_A_BODY, 400, 404, 504, schema=OPENAI_ERROR),
}


def router(
    service: Service, models: Sequence[str], max_body_bytes: int, ping_interval_s: float
) -> APIRouter:
    """`models` are the names of the one model that is served."""
    failures = errors.documented(*errors.ANYWHERE, schema=OPENAI_ERROR)
    routes = APIRouter(prefix="/v1", tags=["openai"], responses=failures)
    started = _now()

    async def answer(request: Request, asked: ImagesRequest) -> Response:
        fields = openai.generation_fields(asked, service.offer)
        fields.setdefault("request_id", request.state.request_id)
        parsed = await service.parse(
            fields,
            image=asked.image,
            mask=asked.mask,
            mask_of="white" if asked.mask is None else "transparent",
            shown=openai.SHOWN,
        )
        wanted = with_warnings(openai.with_partials(parsed, asked), asked, service.offer)
        request.state.request_id = wanted.request_id
        if not asked.stream:
            final = await unless_gone(
                request.receive, final_event(service, wanted, request.state.caller)
            )
            return JSONResponse(openai_answers.images_json(final, wanted, asked, _now()))

        def encode(event: Event) -> bytes | None:
            return openai_answers.encode(event, wanted, asked, _now())

        return EventStream(service, wanted, request.state.caller, ping_interval_s, encode)

    @routes.post(
        GENERATIONS,
        openapi_extra=GENERATION_SCHEMA,
        response_class=Response,
        responses=ANSWERS,
    )
    async def generate(request: Request) -> Response:
        """Pictures of a prompt; with `stream`, partial ones while they are being made."""
        fields = await read_json_object(request, max_body_bytes)
        return await answer(request, openai.parse_generation(fields, models))

    @routes.post(EDITS, openapi_extra=EDIT_SCHEMA, response_class=Response, responses=ANSWERS)
    async def edit(request: Request) -> Response:
        """Pictures that start from one that is sent, or replace a part of it."""
        asked = openai.parse_edit(await read_form(request, max_body_bytes), models)
        assert asked.image is not None
        if asked.mask is None:
            looking = service.has_holes(asked.image, request.state.caller)
            if await unless_gone(request.receive, looking):
                asked = openai.with_holes(asked)
        return await answer(request, asked)

    @routes.get("/models", response_class=JSONResponse)
    async def list_models() -> Response:
        """The names of the model that is served."""
        return JSONResponse(openai_answers.models_json(models, started))

    @routes.get(
        "/models/{owner}/{alias}",
        response_class=JSONResponse,
        responses=errors.documented(404, schema=OPENAI_ERROR),
    )
    async def one_model(owner: str, alias: str) -> Response:
        """One of those names, which have a slash."""
        return JSONResponse(openai_answers.model_json(f"{owner}/{alias}", models, started))

    @routes.get("/models/{alias}", include_in_schema=False)
    async def no_model(alias: str) -> Response:
        return JSONResponse(openai_answers.model_json(alias, models, started))

    others = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

    @routes.api_route("/models", methods=others, include_in_schema=False)
    async def no_model_is_made() -> Response:
        # The path is one of an application too, owner/alias, which would be looked for in vain.
        raise HTTPException(405, headers={"Allow": "GET"})

    return routes


def _now() -> int:
    return int(time.time())
