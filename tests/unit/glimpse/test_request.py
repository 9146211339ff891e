"""`glimpse.request`: the input table of the API, row by row."""

import base64
import dataclasses
import itertools
import json
import math
import random
import re
from typing import Any

import pytest
from PIL import Image

from glimpse.errors import InvalidRequest
from glimpse.fields import MAX_PROBLEMS, field_of, validate
from glimpse.request import (
    IGNORED_FIELDS,
    MAX_SEED,
    PRESET_ASPECTS,
    GenerationInput,
    GenerationRequest,
    PreviewSpec,
    max_steps,
    nearest_size,
    parse_request,
    size_of_aspect,
)
from glimpse.request_warnings import Shown
from tests.fakes import OFFER, looked_at, make_request
from tests.strange_pictures import encoded, turned
from tests.wire.sent import ORANGE, ORANGE_URL

SDXL = dataclasses.replace(
    OFFER,
    default_width=1024,
    default_height=1024,
    default_steps=30,
    max_side=2048,
    max_pixels=1536 * 1024,
    max_input_bytes=10**6,
)
PNG, PNG_URL = ORANGE, ORANGE_URL


def parse(**fields: Any) -> GenerationRequest:
    return parse_request({"prompt": "a lighthouse"} | fields, OFFER)


def refused(**fields: Any) -> tuple[str, str]:
    """The one problem that is found: the field's name, and what is said about it."""
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    (problem,) = caught.value.problems
    assert set(problem) == {"loc", "msg", "type"}
    assert problem["loc"][0] == "body"
    return problem["loc"][1], problem["msg"]


def test_what_is_left_out_is_the_models_or_the_apis_default() -> None:
    request = parse()
    made_id = request.request_id
    assert re.fullmatch("[0-9a-f]{32}", made_id)
    assert 0 <= request.seed <= MAX_SEED
    assert request == GenerationRequest(
        request_id=made_id,
        prompt="a lighthouse",
        negative_prompt=None,
        num_inference_steps=4,
        guidance_scale=4.5,
        seed=request.seed,
        width=128,
        height=128,
        num_images=1,
        scheduler="euler",
        preview=PreviewSpec(every=5, format="jpeg", quality=70, size=512),
        output_format="jpeg",
        progress=False,
        image=None,
        mask=None,
        strength=1.0,
    )


def test_random_seeds_and_made_ids_are_new_each_time() -> None:
    requests = [parse(seed=None, request_id=None) for _ in range(3)]
    assert len({request.seed for request in requests}) == 3
    assert len({request.request_id for request in requests}) == 3


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("prompt", ["x", "x" * 2000, " ", "prompt\n\u2028 \U0001f30a"]),
        ("negative_prompt", ["x", "x" * 2000]),
        ("num_inference_steps", [1, 100]),
        ("guidance_scale", [0, 20, 0.5, 20.0]),
        ("seed", [0, 2**32 - 1]),
        ("num_images", [1, 4]),
        ("scheduler", ["euler", "euler_ancestral", "dpmpp_2m", "ddim", "unipc", "lcm"]),
        ("output_format", ["jpeg", "png", "webp"]),
        ("progress", [True, False]),
        ("request_id", ["x", "~" * 64, "a-b_c/d.e"]),
        ("width", [32, 256]),
        ("height", [32, 256]),
    ],
)
def test_a_field_is_taken_up_to_its_limits(field: str, accepted: list[Any]) -> None:
    for value in accepted:
        assert getattr(parse(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "name", "accepted"),
    [
        ("preview_every", "every", [0, 1, 100]),
        ("preview_format", "format", ["jpeg", "webp"]),
        ("preview_quality", "quality", [1, 100]),
        ("preview_size", "size", [16, 4096]),
    ],
)
def test_how_previews_are_wanted(field: str, name: str, accepted: list[Any]) -> None:
    for value in accepted:
        assert getattr(parse(**{field: value}).preview, name) == value


INTEGERS = {
    "num_inference_steps": (1, 100),
    "seed": (0, 2**32 - 1),
    "width": (1, 16384),
    "height": (1, 16384),
    "num_images": (1, 4),
    "preview_every": (0, 100),
    "preview_quality": (1, 100),
    "preview_size": (16, 4096),
}


@pytest.mark.parametrize("field", INTEGERS)
def test_an_integer_out_of_its_range_or_of_another_type_is_refused(field: str) -> None:
    least, most = INTEGERS[field]
    wrong = [least - 1, most + 1, 10**400, True, False, "5", 5.5, math.nan, math.inf, [5], {}]
    wrong += [least - 1.0, most + 1.0, 1e308, -math.inf, 4.000001, "5.0", b"5"]
    for value in wrong:
        assert refused(**{field: value})[0] == field


@pytest.mark.parametrize("field", INTEGERS)
def test_a_float_without_a_fraction_is_the_integer(field: str) -> None:
    sizes = {"width": (32, 256), "height": (32, 256)}
    least, most = sizes.get(field, INTEGERS[field])
    for value in (least, most):
        named = {field: value, "seed": value if field == "seed" else 1, "request_id": "x"}
        asked = parse(**named | {field: float(value)})
        assert asked == parse(**named)
        assert all(type(each) is not float for each in dataclasses.astuple(asked.preview))
    assert type(parse(seed=7.0).seed) is int
    assert parse(seed=-0.0).seed == 0
    request = parse(image_size={"width": 64.0, "height": 200.0})
    assert (request.width, request.height) == (64, 200)


def test_a_random_seed_is_asked_for_by_null() -> None:
    for value in (-1, -1.0, "random", True, 2**32):
        field, message = refused(seed=value)
        assert field == "seed"
        assert message.endswith("; for a random seed send null, or leave it out")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("prompt", ["", "x" * 2001, None, 1, True, ["x"], b"x", "\ud800"]),
        ("negative_prompt", ["x" * 2001, 1, ["x"], "\udfff"]),
        ("guidance_scale", [-0.1, 20.1, math.nan, math.inf, -math.inf, "1", True, 10**400, [1]]),
        ("scheduler", ["", "Euler", "heun", 1, "\ud800"]),
        ("output_format", ["jpg", "gif", 1, None]),
        ("preview_format", ["png", "JPEG", None]),
        ("progress", [1, 0, "true", None]),
        ("request_id", ["", "x" * 65, "a b", "a\n", "é", "a\r\nx: y", 1]),
        ("image_size", ["huge", 512, [512, 512], {}, {"width": 128}, {"width": "128"}, True]),
        ("strength", [-0.1, 1.1, math.nan, "0.5", True]),
        ("image_url", [1, b"x", ["x"]]),
        ("mask_url", [1, b"x", ["x"]]),
        ("num_images", [None]),
        ("preview_every", [None]),
    ],
)
def test_a_value_that_is_not_in_the_table_is_refused(field: str, wrong: list[Any]) -> None:
    for value in wrong:
        fields = {"image_url": PNG_URL, field: value}
        with pytest.raises(InvalidRequest) as caught:
            parse(**fields)
        assert {problem["loc"][1] for problem in caught.value.problems} == {field}
        json.dumps(caught.value.problems)


def test_a_prompt_is_required() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({}, OFFER)
    assert caught.value.message == "prompt: Field required"


def test_an_empty_negative_prompt_is_none() -> None:
    assert parse(negative_prompt="").negative_prompt is None
    assert parse(negative_prompt=None).negative_prompt is None


def test_null_is_the_models_default() -> None:
    fields = ["num_inference_steps", "guidance_scale", "image_size", "width", "scheduler"]
    assert dataclasses.replace(
        parse(seed=1, request_id="x", **dict.fromkeys(fields)),
    ) == parse(seed=1, request_id="x")


def test_fields_that_fal_apps_take_are_ignored_whatever_is_in_them() -> None:
    assert {"sync_mode", "enable_safety_checker", "expand_prompt"} <= IGNORED_FIELDS
    assert not IGNORED_FIELDS & GenerationInput.model_fields.keys()
    ignored = dict.fromkeys(IGNORED_FIELDS, math.nan)
    assert parse(seed=1, request_id="x", **ignored) == parse(seed=1, request_id="x")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("steps", None),
        ("num_steps", "num_inference_steps"),
        ("num_inference_step", "num_inference_steps"),
        ("guidance", "guidance_scale"),
        ("Prompt", "prompt"),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_known_name(
    name: str, near: str | None
) -> None:
    expected = "unknown field" + (f"; did you mean {near}?" if near else "")
    assert refused(**{name: 1}) == (name, expected)


@pytest.mark.parametrize("name", ["\ud800", "x" * 100_000, "né\n", "a" * 63 + "\ud800\U0001f30a"])
def test_any_key_can_be_named_in_an_answer(name: str) -> None:
    field, _ = refused(**{name: 1})
    assert field.isascii()
    assert len(field) <= 640
    with pytest.raises(InvalidRequest) as caught:
        parse(image_size={"width": 128, "height": 128, name: 1})
    json.dumps(caught.value.problems, ensure_ascii=False).encode("utf-8")


def test_a_body_of_nonsense_is_answered_in_short_and_soon() -> None:
    nonsense: dict[str, Any] = {f"preview_qualit{n}": n for n in range(20_000)}
    with pytest.raises(InvalidRequest) as caught:
        parse(**nonsense, image_size=nonsense)
    assert len(caught.value.problems) == MAX_PROBLEMS


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"num_images": 9, "seed": -1, "nonsense": 1, "other": 2}, OFFER)
    named = {problem["loc"][1] for problem in caught.value.problems}
    assert named == {"prompt", "num_images", "seed", "nonsense", "other"}


SECRET = "S3CR3T"


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [SECRET]},
        {"prompt": SECRET * 1000},
        {"num_inference_steps": SECRET},
        {"image_size": SECRET},
        {"image_size": {"width": SECRET, "height": 1}},
        {"scheduler": SECRET},
        {"request_id": SECRET + " "},
        {"image_url": SECRET},
        {"image_url": f"data:image/{SECRET},"},
        {"image_url": "data:image/png;base64," + SECRET * 1000},
        {"mask_url": SECRET},
        {"image_url": PNG_URL, "mask_url": "data:image/png;base64," + SECRET * 1000},
        {"unknown": SECRET},
    ],
)
def test_what_was_sent_is_never_sent_back(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert SECRET not in json.dumps([caught.value.detail, caught.value.message])


# Sizes


@pytest.mark.parametrize(
    ("preset", "small", "large"),
    [
        ("square_hd", (128, 128), (1024, 1024)),
        ("square", (128, 128), (1024, 1024)),
        ("portrait_4_3", (112, 144), (888, 1184)),
        ("portrait_16_9", (96, 168), (768, 1368)),
        ("landscape_4_3", (144, 112), (1184, 888)),
        ("landscape_16_9", (168, 96), (1368, 768)),
    ],
)
def test_a_preset_is_an_aspect_at_the_models_native_area(
    preset: str, small: tuple[int, int], large: tuple[int, int]
) -> None:
    for offer, size in ((OFFER, small), (SDXL, large)):
        request = parse_request({"prompt": "x", "image_size": preset}, offer)
        assert (request.width, request.height) == size
        area = offer.default_width * offer.default_height
        assert size[0] * size[1] == pytest.approx(area, rel=0.05)
        assert size[0] / size[1] == pytest.approx(PRESET_ASPECTS[preset], rel=0.05)


@pytest.mark.parametrize("aspect", [1 / 3, 0.5, 2 / 3, 1, 1.5, 3])
def test_any_aspect_is_a_valid_size_at_the_models_native_area(aspect: float) -> None:
    for offer in (OFFER, SDXL):
        width, height = size_of_aspect(aspect, offer)
        assert nearest_size(width, height, offer) == (width, height)
        assert width / height == pytest.approx(aspect, rel=0.1)


def test_a_size_can_be_given_in_two_ways_but_not_in_both() -> None:
    size = {"width": 64, "height": 200}
    for fields in (size, {"image_size": size}):
        request = parse(**fields)
        assert (request.width, request.height) == (64, 200)
    assert parse(width=64).height == 128
    for both in ({"image_size": size, "width": 64}, {"image_size": "square", "height": 64}):
        with pytest.raises(InvalidRequest, match="not both"):
            parse(**both)


@pytest.mark.parametrize(
    ("size", "wrong"),
    [
        ("huge", ["preset"]),
        ({"width": 64}, ["size", "height"]),
        (7, ["size"]),
    ],
)
def test_a_wrong_image_size_is_told_of_the_one_that_was_meant(size: Any, wrong: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(image_size=size)
    assert [p["loc"] for p in caught.value.problems] == [["body", "image_size", *wrong]]


@pytest.mark.parametrize(
    ("width", "height", "near"),
    [
        (100, 128, "104x128"),
        (99, 128, "96x128"),
        (1, 1, "32x32"),
        (24, 64, "32x64"),
        (264, 128, "256x128"),
        (257, 257, "256x256"),
        (512, 256, "256x128"),
        (16384, 16384, "256x256"),
        (16384, 1, "256x32"),
    ],
)
def test_a_size_that_cannot_be_made_is_refused_with_the_nearest_that_can(
    width: int, height: int, near: str
) -> None:
    field, message = refused(image_size={"width": width, "height": height})
    assert field == "image_size"
    assert message.endswith(f"the nearest valid size is {near}")
    assert "multiples of 8, at least 32, at most 256" in message
    field, message = refused(width=width, height=height)
    assert field in ("width", "height")
    assert message.endswith(f"the nearest valid size is {near}")
    near_width, near_height = map(int, near.split("x"))
    parse(width=near_width, height=near_height)


def test_a_size_within_the_sides_but_over_the_area_is_refused() -> None:
    wide = {"width": 2048, "height": 1024}
    with pytest.raises(InvalidRequest, match="nearest valid size is 1768x888"):
        parse_request({"prompt": "x", "image_size": wide}, SDXL)


def test_the_nearest_size_is_valid_and_a_valid_size_is_its_own_nearest() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        offer = dataclasses.replace(
            OFFER, max_side=chance.randrange(32, 600), max_pixels=chance.randrange(32 * 32, 200_000)
        )
        width, height = nearest_size(chance.uniform(1, 2000), chance.uniform(1, 2000), offer)
        assert width % 8 == height % 8 == 0
        assert 32 <= min(width, height) and max(width, height) <= offer.max_side
        assert width * height <= offer.max_pixels
        assert nearest_size(width, height, offer) == (width, height)


# Input pictures


def test_an_input_picture_comes_as_a_data_uri() -> None:
    request = parse(image_url=PNG_URL)
    assert request.image == looked_at(PNG)
    assert request.mask is None
    assert request.strength == 0.6
    assert request.steps == 2  # of 4


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must be a data URI"),
        ("https://example.com/x.png", "must be a data URI"),
        ("file:///etc/passwd", "must be a data URI"),
        ("data:image/png;base64", "must be a data URI"),
        ("data:image/png,abcd", "is not a picture"),
        ("data:text/html;base64,abcd", "is not a picture"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png;base64,abcde", "is broken"),
        ("data:image/png;base64,é", "not ASCII"),
        ("data:image/png;base64," + "A" * 1344, "is larger than 1000 bytes"),
    ],
)
def test_a_broken_input_picture_is_refused(url: str, message: str) -> None:
    for field in ("image_url", "mask_url"):
        named, said = refused(**({"image_url": PNG_URL} | {field: url}))
        assert named == field
        assert message in said


def test_a_mask_comes_beside_the_picture() -> None:
    request = parse(image_url=PNG_URL, mask_url=PNG_URL, strength=1)
    pictures = looked_at(PNG), looked_at(PNG, "mask_url")
    assert (request.image, request.mask, request.strength) == (*pictures, 1)
    assert parse(image_url=PNG_URL, mask_url=None).mask is None


@pytest.mark.parametrize(
    ("picture", "size"),
    [((60, 40), (160, 104)), ((40, 60), (104, 160)), ((8, 8), (128, 128)), ((10, 2000), (32, 256))],
)
def test_without_a_size_the_aspect_of_the_picture_decides(
    picture: tuple[int, int], size: tuple[int, int]
) -> None:
    seen = looked_at(encoded(Image.new("1", picture), "PNG"))
    fields: dict[str, Any] = {"prompt": "p"}
    request = parse_request(fields, OFFER, image=seen)
    assert (request.width, request.height) == size
    for given in ({"image_size": "square"}, {"width": 128, "height": 128}):
        asked = parse_request(fields | given, OFFER, image=seen)
        assert (asked.width, asked.height) == (128, 128)


def test_a_picture_on_its_side_has_its_aspect_upright() -> None:
    request = parse_request({"prompt": "p"}, OFFER, image=looked_at(turned()))
    assert (request.width, request.height) == (160, 104)  # stored 40 x 64


def test_a_mask_of_transparency_is_as_large_as_its_picture_and_has_an_alpha_channel() -> None:
    image, opaque = (
        looked_at(encoded(Image.new("RGB", (8, 8)), "PNG"), n) for n in ("image", "mask")
    )
    other = looked_at(encoded(Image.new("RGBA", (9, 8)), "PNG"), "mask")
    for mask, reason in ((opaque, "has no alpha channel"), (other, "must be as wide")):
        with pytest.raises(InvalidRequest, match=f"'mask'.*{reason}"):
            parse_request({"prompt": "p"}, OFFER, image=image, mask=mask, mask_of="transparent")
        parse_request({"prompt": "p"}, OFFER, image=image, mask=mask)


@pytest.mark.parametrize("more", [{}, {"strength": 0.5}])
def test_a_mask_without_a_picture_is_refused(more: dict[str, Any]) -> None:
    assert refused(mask_url=PNG_URL, **more) == (
        "mask_url",
        "has a meaning only with image_url; leave it out",
    )


def test_an_input_picture_of_just_the_limit_is_taken() -> None:
    picture = PNG.ljust(1000)
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    assert parse(image_url=url).image == looked_at(picture)


@pytest.mark.parametrize(
    ("steps", "strength", "run"), [(20, 0.5, 10), (100, 0.29, 28), (3, 1, 3), (100, 0.01, 1)]
)
def test_strength_is_the_part_of_the_steps_that_is_run(
    steps: int, strength: float, run: int
) -> None:
    request = parse(image_url=PNG_URL, num_inference_steps=steps, strength=strength)
    assert (request.num_inference_steps, request.steps) == (steps, run)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 29, 50, 99, 100])
def test_a_strength_that_leaves_no_step_is_refused_with_one_that_does(steps: int) -> None:
    field, message = refused(image_url=PNG_URL, num_inference_steps=steps, strength=0.009)
    assert field == "strength"
    told = re.search(r"at least ([0-9.]+)", message)
    assert told is not None
    enough = float(told[1])
    assert parse(image_url=PNG_URL, num_inference_steps=steps, strength=enough).steps >= 1


def test_strength_without_a_picture_is_refused_so_that_no_one_counts_on_it() -> None:
    assert refused(strength=0.5)[0] == "strength"


def test_without_a_picture_all_steps_are_run() -> None:
    assert parse(num_inference_steps=9).steps == 9


@pytest.mark.parametrize("offer", [OFFER, dataclasses.replace(OFFER, default_scheduler="lcm")])
def test_lcm_takes_no_more_steps_than_it_was_distilled_on(offer: Any) -> None:
    fields = {"prompt": "x", "scheduler": "lcm"} if offer is OFFER else {"prompt": "x"}
    assert parse_request(fields | {"num_inference_steps": 50}, offer).num_inference_steps == 50
    with pytest.raises(InvalidRequest, match="at most 50 steps"):
        parse_request(fields | {"num_inference_steps": 51}, offer)


# Warnings


def warned(**fields: Any) -> list[str]:
    return list(parse(**fields).warnings)


def test_a_request_that_is_met_has_no_warnings() -> None:
    assert warned() == []
    assert warned(negative_prompt="fog", guidance_scale=1.5) == []
    assert warned(image_url=PNG_URL) == []
    assert warned(image_url=PNG_URL, strength=0.5, num_inference_steps=8) == []


@pytest.mark.parametrize("guidance_scale", [0, 0.5, 1, 1.0])
def test_a_negative_prompt_without_guidance_is_not_used_and_says_so(guidance_scale: float) -> None:
    request = parse(negative_prompt="fog", guidance_scale=guidance_scale)
    assert request.negative_prompt is None
    assert request.warnings[0] == (
        "negative_prompt has no effect: guidance is off, as guidance_scale is not above 1."
    )
    turbo = dataclasses.replace(OFFER, default_guidance_scale=0.0)
    request = parse_request({"prompt": "x", "negative_prompt": "fog"}, turbo)
    assert [field_of(each) for each in request.warnings] == ["negative_prompt"]


@pytest.mark.parametrize(
    ("fields", "about", "run"),
    [
        ({"strength": 0.7, "num_inference_steps": 4}, ["strength"], 2),
        ({"strength": 0.29, "num_inference_steps": 100}, ["strength"], 28),
        ({"strength": 0.75, "num_inference_steps": 4}, [], 3),
        ({"strength": 0.7}, ["strength"], 2),
        ({"num_inference_steps": 4}, ["num_inference_steps"], 2),
        ({"num_inference_steps": 5}, [], 3),
        ({}, [], 2),  # nobody asked for any number
    ],
)
def test_steps_that_strength_rounds_away_are_told(
    fields: dict[str, Any], about: list[str], run: int
) -> None:
    request = parse(image_url=PNG_URL, **fields)
    assert request.steps == run
    assert [field_of(each) for each in request.warnings] == about
    said = f"is rounded down to {run} of {request.num_inference_steps} steps"
    assert all(said in each for each in request.warnings)


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({"preview_every": 0, "preview_quality": 30, "preview_size": 64}, {"quality", "size"}),
        (
            {"num_inference_steps": 1, "preview_every": 1, "preview_format": "webp"},
            {"every", "format"},
        ),
        ({"preview_size": 129}, {"size"}),
        ({"preview_size": 128}, set()),
        ({"preview_every": 2, "num_images": 2}, {"every"}),
        ({"num_images": 2}, set()),
    ],
)
def test_what_is_said_of_previews_that_there_are_not_is_told(
    fields: dict[str, Any], about: set[str]
) -> None:
    assert {field_of(each) for each in warned(**fields)} == {f"preview_{name}" for name in about}


def test_a_door_that_shows_no_previews_makes_none_and_says_why() -> None:
    alone = Shown("they are not shown", "nor is this")
    fields = {"prompt": "x", "preview_every": 2, "progress": True}
    request = parse_request(fields, OFFER, shown=alone)
    assert request.preview_steps == frozenset()
    assert request.warnings == (
        "preview_every has no effect: they are not shown.",
        "progress has no effect: nor is this.",
    )
    assert parse_request({"prompt": "x"}, OFFER, shown=alone).warnings == ()


def test_a_preset_that_the_limits_make_smaller_says_so() -> None:
    narrow = dataclasses.replace(OFFER, max_side=160)
    for preset, about in (("landscape_4_3", []), ("landscape_16_9", ["image_size"])):
        request = parse_request({"prompt": "x", "image_size": preset}, narrow)
        assert [field_of(each) for each in request.warnings] == about


@pytest.mark.parametrize(
    ("picture", "size", "side"),
    [
        ((64, 64), (128, 128), None),
        ((640, 640), (128, 128), None),
        ((133, 128), (128, 128), None),  # less than a latent
        ((137, 128), (128, 128), "left and right"),
        ((64, 128), (128, 128), "top and bottom"),
        ((30, 20), (64, 96), "left and right"),
        ((1, 300), (128, 128), "top and bottom"),
    ],
)
def test_a_picture_that_is_cut_to_the_size_is_told(
    picture: tuple[int, int], size: tuple[int, int], side: str | None
) -> None:
    other = looked_at(encoded(Image.new("RGB", picture), "PNG"))
    same = looked_at(encoded(Image.new("RGB", size), "PNG"))
    fields = {"prompt": "x", "width": size[0], "height": size[1]}
    for image, mask, name in ((other, None, "image_url"), (same, other, "mask_url")):
        request = parse_request(fields, OFFER, image=image, mask=mask)
        told = f"{name} is cut at the {side}: its aspect is not that of the size."
        assert request.warnings == ((told,) if side else ())
    # Without a size there is nothing to cut but what no size in latents has.
    if max(picture) < 3 * min(picture):
        assert parse_request({"prompt": "x"}, OFFER, image=other).warnings == ()


@pytest.mark.parametrize(
    ("fields", "warns"),
    [
        ({"enable_safety_checker": True}, True),
        ({"enable_safety_checker": False}, False),
        ({"enable_safety_checker": None}, False),
        ({"safety_checker_version": "v1"}, True),
        ({"safety_tolerance": "2"}, True),
        ({"safety_tolerance": "6"}, False),
        ({"expand_prompt": True}, True),
        ({"enable_prompt_expansion": False}, False),
        ({"acceleration": "regular"}, True),
        ({"acceleration": "none"}, False),
        ({"sync_mode": True}, False),
        ({"sync_mode": False}, False),
        ({"format": "jpeg"}, False),
        ({"format": "png"}, True),
        ({"format": "png", "output_format": "png"}, False),
        ({"acceleration": ["x"]}, True),
    ],
)
def test_an_ignored_field_warns_where_its_value_asks_for_what_is_not_done(
    fields: dict[str, Any], warns: bool
) -> None:
    (name, *_) = fields
    assert [field_of(each) for each in warned(**fields)] == [name] * warns


def test_a_warning_never_sends_back_what_was_sent() -> None:
    secret = "S3CR3T"
    texts = dict.fromkeys(["negative_prompt", *IGNORED_FIELDS], secret)
    told = warned(**texts, guidance_scale=0.123456)
    assert len(told) > 8
    assert "S3CR3T" not in str(told) and "0.123" not in str(told)


# What follows from a request


@pytest.mark.parametrize(
    ("steps", "every", "shown"),
    [
        (20, 5, {1, 5, 10, 15}),
        (20, 0, set()),
        (4, 1, {1, 2, 3}),
        (4, 100, {1}),
        (1, 1, set()),
        (2, 1, {1}),
        (11, 5, {1, 5, 10}),
        (10, 10, {1}),
    ],
)
def test_previews_are_of_the_first_step_and_the_multiples_below_the_last(
    steps: int, every: int, shown: set[int]
) -> None:
    assert parse(num_inference_steps=steps, preview_every=every).preview_steps == shown


def test_with_an_input_picture_previews_count_the_steps_that_are_run() -> None:
    fields = {"num_inference_steps": 20, "preview_every": 5, "strength": 0.5}
    assert parse(image_url=PNG_URL, **fields).preview_steps == {1, 5}


@pytest.mark.parametrize(
    ("steps", "count", "shown"),
    [
        (20, 0, set()),
        (20, 1, {10}),
        (20, 2, {6, 13}),
        (20, 3, {5, 10, 15}),
        (4, 3, {1, 2, 3}),
        (3, 3, {1, 2}),
        (2, 3, {1}),
        (1, 3, set()),
    ],
)
def test_previews_by_their_number_are_spread_over_the_steps(
    steps: int, count: int, shown: set[int]
) -> None:
    spec = PreviewSpec(every=1, format="jpeg", quality=70, size=512, count=count)
    assert make_request(num_inference_steps=steps, preview=spec).preview_steps == shown
    halved = make_request(
        num_inference_steps=2 * steps, preview=spec, image=looked_at(PNG), strength=0.5
    )
    assert halved.preview_steps == shown


@pytest.mark.parametrize("steps", range(2, 101))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_there_are_as_many_previews_as_wanted_before_the_last_step(steps: int, count: int) -> None:
    spec = PreviewSpec(every=0, format="jpeg", quality=70, size=512, count=count)
    shown = sorted(make_request(num_inference_steps=steps, preview=spec).preview_steps)
    assert len(shown) == min(count, steps - 1)
    gaps = [later - earlier for earlier, later in itertools.pairwise([0, *shown, steps])]
    assert max(gaps) - min(gaps) <= 1


def test_seeds_go_on_at_zero_after_the_largest() -> None:
    assert make_request(seed=5, num_images=3).seeds == (5, 6, 7)
    assert make_request(seed=MAX_SEED, num_images=2).seeds == (MAX_SEED, 0)


def test_lcm_has_fewer_steps_than_the_others() -> None:
    assert (max_steps("lcm"), max_steps("euler")) == (50, 100)


def test_fields_that_come_as_text_are_read_as_what_they_say() -> None:
    wanted = validate(
        GenerationInput,
        {"prompt": "7", "seed": "7", "guidance_scale": "1.5", "progress": "true", "old": "x"},
        frozenset({"old"}),
        text=True,
    )
    assert (wanted.prompt, wanted.seed, wanted.guidance_scale) == ("7", 7, 1.5)
    assert wanted.progress is True
    for wrong in ("", "seven", "7.5", "nan", "9" * 5000):
        with pytest.raises(InvalidRequest, match="'seed'"):
            validate(GenerationInput, {"prompt": "x", "seed": wrong}, frozenset(), text=True)


# Anything at all


def test_any_input_is_taken_or_refused_and_can_be_answered() -> None:
    chance = random.Random(7)
    names = [*GenerationInput.model_fields, *IGNORED_FIELDS, "", "\ud800", "x", "Prompt"]
    values: list[Any] = [
        None, True, False, 0, 1, -1, 5, 64, 100, 2**32, 10**400, 0.0, 0.5, 1e308, -0.0,
        math.nan, math.inf, "", "x", "\ud800", "x" * 3000, "square", "euler", "lcm", "jpeg",
        PNG_URL, PNG_URL[:-1], "data:image/png;base64,", [], [1], {}, {"width": 64, "height": 64},
        {"width": 64, "height": 10**400}, {"width": math.nan}, {"\ud800": {}}, b"\xff",
    ]  # fmt: skip
    taken = 0
    for _ in range(5000):
        fields = {chance.choice(names): chance.choice(values) for _ in range(chance.randrange(6))}
        if chance.random() < 0.8:
            fields["prompt"] = "x"
        try:
            request = parse_request(fields, OFFER)
        except InvalidRequest as refusal:
            assert refusal.problems
            json.dumps([refusal.detail, refusal.message], allow_nan=False, ensure_ascii=False)
            assert refusal.message.encode("utf-8")
        else:
            taken += 1
            assert 1 <= request.steps <= 100
            assert request.preview_steps < set(range(1, request.steps + 1))
            assert request.width % 8 == request.height % 8 == 0
    assert taken > 100
