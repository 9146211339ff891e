"""`glimpse.errors`: they cross processes, and each says all that an answer needs."""

import pickle

import pytest

from glimpse import errors
from glimpse.errors import GlimpseError, InvalidRequest, StageFailed, StageLost, invalid


def every_error() -> list[GlimpseError]:
    made: list[GlimpseError] = [invalid("seed", "is odd")]
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, GlimpseError) and cls is not InvalidRequest:
            made += [cls("denoise"), cls("denoise", "Try again.")]
    return made


@pytest.mark.parametrize("error", every_error(), ids=repr)
def test_an_error_survives_its_way_between_processes(error: GlimpseError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert (back.message, back.detail, back.code, back.status) == (
        error.message,
        error.detail,
        error.code,
        error.status,
    )
    assert back.message
    assert (400 <= error.status < 500) == (error.fault == "client" or error.status == 429)


def test_codes_are_unlike_one_another() -> None:
    codes = {type(error): error.code for error in every_error()}
    assert len(set(codes.values())) == len(codes)


def test_an_invalid_request_names_each_field() -> None:
    problems = [
        {"loc": ["body", "image_size", "width"], "msg": "is odd", "type": "x"},
        {"loc": ["body"], "msg": "is short", "type": "x"},
    ]
    error = InvalidRequest(problems)
    assert error.message == "image_size.width: is odd; body: is short"
    assert error.detail == problems


def test_a_stage_that_fails_is_named_unless_there_is_more_to_say() -> None:
    assert StageFailed("denoise").message == "The denoise stage failed; please try again."
    assert "was lost in mid-picture" in StageLost("denoise").message
    assert StageFailed("denoise", "It broke.").message == "It broke."
