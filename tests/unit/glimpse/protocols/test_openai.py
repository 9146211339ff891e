"""OpenAI's words: what is asked for, the warnings and the exact answers."""

import base64
import dataclasses
import json
import math
from typing import Any

import pytest
from PIL import Image

from glimpse.errors import (
    InvalidRequest,
    MethodNotAllowed,
    ModelNotFound,
    NotReady,
    Overloaded,
    StageFailed,
    invalid,
)
from glimpse.event_log import Accepted, Cancelled, Failed, Final, Preview, Step, Timings
from glimpse.fields import field_of
from glimpse.ports import Picture
from glimpse.protocols.openai import (
    IGNORED_FIELDS,
    SHOWN,
    ImagesInput,
    ImagesRequest,
    generation_fields,
    parse_edit,
    parse_generation,
    with_partials,
)
from glimpse.protocols.openai_answers import (
    encode,
    error_json,
    images_json,
    models_json,
    speaks,
    status,
)
from glimpse.protocols.openai_warnings import with_warnings
from glimpse.request import GenerationRequest, parse_request
from tests.fakes import OFFER, looked_at, make_request
from tests.mutations import PNG_URL
from tests.strange_pictures import encoded

MODELS = ("glimpse/miniature", "glimpse/other")
PICTURE = encoded(Image.new("RGB", (60, 40)), "PNG")
MASK = encoded(Image.new("RGBA", (60, 40)), "PNG")
NOW = 1_780_000_000


def generation(**fields: Any) -> ImagesRequest:
    return parse_generation({"prompt": "a lighthouse"} | fields, MODELS)


def edit(*parts: tuple[str, str | bytes]) -> ImagesRequest:
    return parse_edit([("prompt", "a lighthouse"), ("image", PICTURE), *parts], MODELS)


def request_of(asked: ImagesRequest, **offer: Any) -> GenerationRequest:
    """As the door makes it."""
    offered = dataclasses.replace(OFFER, **offer)
    image, mask = (
        None if each is None else looked_at(each, name)
        for each, name in ((asked.image, "image"), (asked.mask, "mask"))
    )
    fields = generation_fields(asked, offered)
    parsed = parse_request(
        fields, offered, image=image, mask=mask, mask_of="transparent", shown=SHOWN
    )
    return with_warnings(with_partials(parsed, asked), asked, offered)


def refused(**fields: Any) -> tuple[str, str]:
    """The one problem that is found: the field's name, and what is said about it."""
    with pytest.raises(InvalidRequest) as caught:
        generation(**fields)
    (problem,) = caught.value.problems
    return problem["loc"][1], problem["msg"]


# Input


def test_what_is_left_out_is_the_models_or_openais_default() -> None:
    assert generation() == ImagesRequest(
        operation="image_generation",
        prompt="a lighthouse",
        n=1,
        aspect=None,
        quality="medium",
        output_format="png",
        output_quality=95,
        as_url=False,
        stream=False,
        partial_images=0,
    )
    request = request_of(generation())
    assert (request.width, request.height, request.steps) == (128, 128, 4)
    assert (request.num_images, request.output_format, request.output_quality) == (1, "png", 95)
    assert request.preview_steps == frozenset()
    assert (request.image, request.mask) == (None, None)


def test_null_is_as_good_as_left_out() -> None:
    names = [*(ImagesInput.model_fields.keys() - {"prompt"}), "svg"]
    assert generation(**dict.fromkeys(names)) == generation()
    with pytest.raises(InvalidRequest, match="'prompt'"):
        generation(prompt=None)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("prompt", ["", "x" * 2001, 1, ["x"], "\ud800"]),
        ("model", [1, ["x"]]),
        ("n", [0, 5, "1", 1.5, True, 10**400]),
        (
            "size",
            ["", "big", "1024", "1024x", "x1", "0x1", "1x0", "1024 x 1024", "1024X1024", 1024],
        ),
        ("size", ["301x100", "100x301", "1x16384", "123456x123456", "-1x-1", "１x１"]),
        ("quality", ["", "best", 1]),
        ("background", ["transparent", "red", 1]),
        ("output_format", ["jpg", "gif", "svg", 1]),
        ("output_compression", [-1, 101, "50", 0.5]),
        ("response_format", ["bytes", 1]),
        ("stream", ["true", 1]),
        ("partial_images", [-1, 4, "1", True]),
    ],
)
def test_a_value_that_is_not_in_the_table_is_refused_by_its_name(
    field: str, wrong: list[Any]
) -> None:
    beside: dict[str, dict[str, Any]] = {
        "partial_images": {"stream": True},
        "output_compression": {"output_format": "jpeg"},
    }
    for value in wrong:
        assert refused(**{field: value}, **beside.get(field, {}))[0] == field


@pytest.mark.parametrize("field", sorted({*ImagesInput.model_fields, "unknown"} - {"prompt"}))
def test_what_was_sent_is_never_sent_back(field: str) -> None:
    for operation in ("generation", "edit"):
        with pytest.raises((InvalidRequest, ModelNotFound)) as caught:
            if operation == "edit":
                edit((field, "S3CR3T"))
            generation(**{field: "S3CR3T"})
        assert "S3CR3T" not in json.dumps(error_json(caught.value))


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_generation({"n": 9, "markup": "x", "qualty": "low"}, MODELS)
    told = {problem["loc"][1]: problem["msg"] for problem in caught.value.problems}
    assert told.keys() == {"prompt", "n", "markup", "qualty"}
    assert told["qualty"] == "unknown field; did you mean quality?"


def test_fields_that_mean_nothing_here_are_ignored_whatever_is_in_them() -> None:
    assert {"user", "moderation", "style", "input_fidelity"} <= IGNORED_FIELDS
    assert not IGNORED_FIELDS & ImagesInput.model_fields.keys()
    assert generation(**dict.fromkeys(IGNORED_FIELDS, math.nan)) == generation()
    assert generation(background="opaque") == generation(background="auto") == generation()


@pytest.mark.parametrize(
    "model",
    [*MODELS, "dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1.5", "chatgpt-image-latest"],
)
def test_the_model_goes_by_its_own_names_and_by_openais(model: str) -> None:
    of_both = {"response_format": "b64_json"}
    asked = generation(model=model, **of_both)
    assert asked == edit_less(edit(("model", model), *of_both.items())) == generation()
    told = [field_of(each) for each in request_of(asked).warnings]
    assert told == ([] if model in MODELS else ["model"])


@pytest.mark.parametrize("model", [None, *MODELS, "gpt-image-1", "dall-e-2", "dall-e-3"])
def test_pictures_of_dall_e_are_urls_unless_the_client_says_otherwise(model: str | None) -> None:
    urls = model in ("dall-e-2", "dall-e-3")
    assert generation(model=model).as_url is urls
    assert edit(*([("model", model)] if model else [])).as_url is urls
    for response_format in ("url", "b64_json"):
        asked = generation(model=model, response_format=response_format)
        assert asked.as_url is (response_format == "url")
    assert not generation(model=model, stream=True).as_url


def edit_less(asked: ImagesRequest) -> ImagesRequest:
    return dataclasses.replace(asked, operation="image_generation", image=None)


@pytest.mark.parametrize("model", ["", "miniature", "gpt-4o", "gpt-image-", "my gpt-image-1", "\n"])
def test_any_other_model_is_not_found_and_the_served_ones_are_listed(model: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        generation(model=model)
    assert (
        caught.value.message == "No such model; this server has glimpse/miniature, glimpse/other."
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("auto", (128, 128)),
        ("256x256", (128, 128)),
        ("1024x1024", (128, 128)),
        ("1536x1024", (160, 104)),
        ("1024x1536", (104, 160)),
        ("1792x1024", (168, 96)),
        ("300x100", (224, 72)),
    ],
)
def test_a_size_is_an_aspect_at_the_models_native_area(
    size: str, expected: tuple[int, int]
) -> None:
    request = request_of(generation(size=size))
    assert (request.width, request.height) == expected
    assert request.width * request.height == pytest.approx(128 * 128, rel=0.05)


@pytest.mark.parametrize(
    ("quality", "told", "steps"),
    [
        ("auto", "medium", 20),
        ("standard", "medium", 20),
        ("medium", "medium", 20),
        ("low", "low", 10),
        ("high", "high", 40),
        ("hd", "high", 40),
        ("xhigh", "xhigh", 60),
        ("max", "max", 80),
    ],
)
def test_quality_is_a_number_of_steps(quality: str, told: str, steps: int) -> None:
    asked = generation(quality=quality)
    assert asked.quality == told
    assert request_of(asked, default_steps=20).num_inference_steps == steps
    assert request_of(asked, default_steps=100).num_inference_steps == min(100, 5 * steps)
    lcm = request_of(asked, default_steps=20, default_scheduler="lcm")
    assert lcm.num_inference_steps == min(50, steps)


@pytest.mark.parametrize(
    ("fields", "offer", "about"),
    [
        ({"quality": "high"}, {}, []),
        ({"quality": "max"}, {"default_steps": 30}, ["quality"]),  # 120 steps are too many
        ({"quality": "low"}, {"default_steps": 1}, ["quality"]),
        ({"quality": "hd"}, {"default_steps": 40, "default_scheduler": "lcm"}, ["quality"]),
        ({"quality": "auto", "num_inference_steps": 3}, {}, []),
        ({"quality": "low", "num_inference_steps": 3}, {}, ["quality"]),
        ({"size": "128x128"}, {}, []),
        ({"size": "auto"}, {}, []),
        ({"size": "1536x1024"}, {}, ["size"]),
        ({"stream": True, "partial_images": 3}, {}, []),
        ({"stream": True, "partial_images": 3}, {"default_steps": 3}, ["partial_images"]),
        ({"stream": True, "partial_images": 1, "n": 2}, {}, ["partial_images"]),
        (
            {"stream": True, "partial_images": 3, "n": 2},
            {"default_steps": 2},
            ["partial_images", "partial_images"],
        ),
        ({"quality": "max", "scheduler": "lcm"}, {"default_steps": 20}, ["quality"]),
        ({"enable_safety_checker": "False", "expand_prompt": "0"}, {}, []),
        ({"input_fidelity": "low", "user": "u", "safety_identifier": "s"}, {}, []),
        ({"input_fidelity": "high", "moderation": "auto"}, {}, ["input_fidelity", "moderation"]),
        ({"style": "natural", "complexity": "low"}, {}, ["complexity", "style"]),
        ({"enable_safety_checker": True, "sync_mode": True}, {}, ["enable_safety_checker"]),
    ],
)
def test_what_is_not_done_is_told(
    fields: dict[str, Any], offer: dict[str, Any], about: list[str]
) -> None:
    request = request_of(generation(**fields), **offer)
    assert [field_of(each) for each in request.warnings] == about


def test_steps_that_no_one_asked_for_have_no_warning() -> None:
    request = request_of(edit())
    assert (request.num_inference_steps, request.steps, request.warnings) == (4, 2, ())
    request = request_of(edit(("num_inference_steps", "4")))
    assert [field_of(each) for each in request.warnings] == ["num_inference_steps"]


def test_however_few_steps_the_model_takes_one_is_run() -> None:
    for quality in ("low", "auto", "high"):
        for asked in (
            generation(quality=quality),
            generation(quality=quality, image_url=PNG_URL),
            edit(("quality", quality)),
            edit(("quality", quality), ("mask", MASK)),
        ):
            assert request_of(asked, default_steps=1).steps >= 1
    assert request_of(generation(), default_steps=1).steps == 1


@pytest.mark.parametrize(("compression", "quality"), [(None, 95), (0, 0), (80, 80), (100, 100)])
def test_output_compression_is_the_quality_of_jpeg_and_webp(
    compression: int | None, quality: int
) -> None:
    for output_format in ("jpeg", "webp"):
        asked = generation(output_format=output_format, output_compression=compression)
        request = request_of(asked)
        assert (request.output_format, request.output_quality) == (output_format, quality)


def test_a_png_has_no_compression_but_openais_default() -> None:
    assert generation(output_compression=100).output_format == "png"
    assert refused(output_compression=99)[0] == "output_compression"


@pytest.mark.parametrize(("partial_images", "steps"), [(0, []), (1, [10]), (3, [5, 10, 15])])
def test_partial_images_are_spread_over_the_steps_and_encoded_like_the_picture(
    partial_images: int, steps: list[int]
) -> None:
    asked = generation(stream=True, partial_images=partial_images, output_format="webp")
    request = request_of(asked, default_steps=20)
    assert sorted(request.preview_steps) == steps
    assert (request.preview.format, request.preview.size) == ("webp", 1024)


def test_what_has_a_meaning_only_with_or_without_a_stream_is_refused() -> None:
    assert refused(partial_images=1)[0] == "partial_images"
    assert refused(stream=True, response_format="url")[0] == "response_format"
    assert generation(partial_images=0, response_format="url").as_url


# Edits


def test_an_edit_is_the_same_in_a_form_with_the_default_strength() -> None:
    asked = edit(
        ("n", "2"),
        ("size", "1536x1024"),
        ("stream", "true"),
        ("partial_images", "3"),
        ("output_format", "jpeg"),
        ("output_compression", "50"),
        ("user", "u"),
    )
    assert asked == ImagesRequest(
        operation="image_edit",
        prompt="a lighthouse",
        n=2,
        aspect=1.5,
        quality="medium",
        output_format="jpeg",
        output_quality=50,
        as_url=False,
        stream=True,
        partial_images=3,
        image=PICTURE,
    )
    request = request_of(asked, default_steps=20)
    assert (request.image, request.mask) == (looked_at(PICTURE, "image"), None)
    assert (request.strength, request.steps) == (0.6, 12)
    assert sorted(request.preview_steps) == [3, 6, 9]


def test_what_a_mask_shows_is_painted_anew_from_the_first_step() -> None:
    request = request_of(edit(("mask", MASK)))
    pictures = looked_at(PICTURE, "image"), looked_at(MASK, "mask")
    assert (request.image, request.mask) == pictures
    assert request.mask_of == "transparent"
    assert (request.width, request.height) == (160, 104)  # the aspect of the picture
    assert (request.strength, request.steps) == (1.0, 4)


def test_a_picture_may_come_as_a_list_of_one() -> None:
    asked = parse_edit([("image[]", PICTURE), ("prompt", "x")], MODELS)
    assert asked.image == PICTURE


@pytest.mark.parametrize(
    ("parts", "field", "message"),
    [
        ([("image", b"two")], "image", "given more than once"),
        ([("image[]", b"two"), ("image[]", b"three")], "image", "given more than once"),
        ([("prompt", "again")], "prompt", "given more than once"),
        ([("mask", b"a"), ("mask", b"b")], "mask", "given more than once"),
        ([("user", "a"), ("user", "b")], "user", "given more than once"),
        ([("image_size[width]", "64")] * 2, "image_size[width]", "given more than once"),
        ([("user", b"a file")], "user", "must be text"),
        ([("mask", "text")], "mask", "must be a file"),
        ([("size", b"file")], "size", "must be text"),
        ([("n", "")], "n", "valid integer"),
        ([("n", "9")], "n", "less than or equal to 4"),
        ([("stream", "maybe")], "stream", "valid boolean"),
        ([("markup", b"file")], "markup", "unknown field"),
        ([("svg[model]", "x")], "svg[model]", "unknown field"),
        ([("twice", "x"), ("twice", b"x")], "twice", "unknown field"),
    ],
)
def test_a_form_that_is_wrong_is_refused_by_the_part(
    parts: list[tuple[str, str | bytes]], field: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        edit(*parts)
    (problem,) = caught.value.problems
    assert problem["loc"] == ["body", field]
    assert message in problem["msg"]


def test_an_edit_without_a_picture_is_refused() -> None:
    for parts in ([], [("mask", MASK)]):
        with pytest.raises(InvalidRequest, match="'image'.*Field required"):
            parse_edit([("prompt", "x"), *parts], MODELS)
    with pytest.raises(InvalidRequest, match="'image'.*must be a file"):
        parse_edit([("prompt", "x"), ("image", "text")], MODELS)


# Answers

PICTURES = tuple(Picture(data, "image/jpeg", 160, 104) for data in (b"a", b"b"))
FINAL = Final(4, PICTURES, Timings(0, 0, 0, 0, 0), 0)
USAGE = (
    b'{"input_tokens":0,"input_tokens_details":{"image_tokens":0,"text_tokens":0},'
    b'"output_tokens":0,"output_tokens_details":{"image_tokens":0,"text_tokens":0},'
    b'"total_tokens":0}'
)
TOLD = (
    b'"created_at":1780000000,"size":"160x104","quality":"medium","background":"opaque",'
    b'"output_format":"jpeg"}\n\n'
)


def streamed(event: Any, asked: ImagesRequest) -> bytes | None:
    return encode(event, request_of(asked), asked, NOW)


@pytest.mark.parametrize("operation", ["image_generation", "image_edit"])
def test_the_events_of_a_stream(operation: Any) -> None:
    fields = {"stream": True, "partial_images": 3, "size": "1536x1024", "output_format": "jpeg"}
    asked = dataclasses.replace(generation(**fields), operation=operation)
    name = operation.encode()
    for step, index in ((1, 0), (2, 1), (3, 2)):
        picture = Picture(b"\xff\xd8", "image/jpeg", 160, 104)
        assert streamed(Preview(step, 4, picture), asked) == (
            b"event: %b.partial_image\n"
            b'data: {"type":"%b.partial_image","b64_json":"/9g=","partial_image_index":%d,%b'
            % (name, name, index, TOLD)
        )
    assert streamed(FINAL, asked) == b"".join(
        b"event: %b.completed\n"
        b'data: {"type":"%b.completed","b64_json":"%b","usage":%b,%b'
        % (name, name, data, USAGE, TOLD)
        for data in (b"YQ==", b"Yg==")
    )


def test_a_failure_is_an_event_that_openais_clients_raise() -> None:
    assert streamed(Failed(StageFailed("denoise", "It broke.")), generation(stream=True)) == (
        b"event: error\n"
        b'data: {"type":"error","error":{"message":"It broke.","type":"server_error",'
        b'"param":null,"code":"stage_failed"}}\n\n'
    )


def test_other_events_are_not_told() -> None:
    for event in (Accepted(), Step(1, 4), Cancelled()):
        assert streamed(event, generation(stream=True)) is None


def test_events_are_one_line_of_ascii_whatever_is_in_them() -> None:
    problem = {"loc": ["body"], "msg": "é \ud83c\udf0a \ud800 \n\r\u2028", "type": "x"}
    data = encode(Failed(InvalidRequest([problem])), make_request(), generation(), NOW)
    assert data is not None and data.isascii()
    assert len(data.split(b"\n")) == 4
    assert b"\r" not in data


@pytest.mark.parametrize("as_url", [False, True])
def test_the_whole_answer(as_url: bool) -> None:
    asked = generation(
        n=2, size="1536x1024", output_format="jpeg", response_format="url" if as_url else "b64_json"
    )
    answer = images_json(FINAL, request_of(asked), asked, NOW)
    texts = [base64.b64encode(data).decode() for data in (b"a", b"b")]
    assert answer == {
        "created": NOW,
        "data": [
            {"url": f"data:image/jpeg;base64,{text}"} if as_url else {"b64_json": text}
            for text in texts
        ],
        "usage": json.loads(USAGE),
        "size": "160x104",
        "quality": "medium",
        "background": "opaque",
        "output_format": "jpeg",
    }


def test_models_are_listed_by_every_name() -> None:
    assert models_json(MODELS, NOW) == {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": NOW, "owned_by": "glimpse"}
            for name in MODELS
        ],
    }


# Errors


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (MethodNotAllowed("Do."), 405, "invalid_request_error"),
        (ModelNotFound("Do."), 404, "invalid_request_error"),
        (Overloaded("Do."), 429, "rate_limit_error"),
        (NotReady("Do."), 503, "server_error"),
        (StageFailed("denoise", "Do."), 500, "server_error"),
    ],
)
def test_an_error_has_openais_shape_and_its_own_code(error: Any, code: int, kind: str) -> None:
    assert status(error) == code
    assert error_json(error) == {
        "error": {"message": "Do.", "type": kind, "param": None, "code": error.code}
    }


def test_bad_input_is_a_400_that_names_the_first_field_as_the_client_does() -> None:
    problems = invalid("mask_url", "is odd").problems + invalid("n", "is even").problems
    error = InvalidRequest(problems)
    assert status(error) == 400
    assert error_json(error) == {
        "error": {
            "message": "mask: is odd; n: is even",
            "type": "invalid_request_error",
            "param": "mask",
            "code": "invalid_request",
        }
    }
    of_the_body = InvalidRequest([{"loc": ["body"], "msg": "is no JSON", "type": "x"}])
    assert error_json(of_the_body)["error"]["param"] is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/images/generations", True),
        ("/v1/images/nothing", True),
        ("/v1/images", True),
        ("/v1/models", True),
        ("/v1/models/x", True),
        ("/v1/modelsx", False),
        ("/v1/generations", False),
        ("/", False),
        ("/glimpse/miniature/v1/images", False),
    ],
)
def test_errors_of_openais_paths_have_openais_shape(path: str, expected: bool) -> None:
    assert speaks(path) is expected
