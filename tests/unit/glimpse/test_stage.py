"""`glimpse.stage`: what comes out of a stage that fails."""

import asyncio

import pytest

from glimpse.errors import StageFailed, invalid
from glimpse.stage import failing_as


def test_an_unforeseen_failure_is_logged_here_and_told_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(StageFailed) as caught, failing_as("r1", "denoise"):
        raise RuntimeError("secret")
    assert caught.value.stage == "denoise"
    assert "secret" not in caught.value.message
    assert caught.value.__suppress_context__
    assert "the denoise stage failed" in caplog.text
    assert "RuntimeError: secret" in caplog.text


def test_our_own_errors_pass_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    error = invalid("image_url", "is not a picture")
    with pytest.raises(type(error)) as caught, failing_as("r1", "image_encode"):
        raise error
    assert caught.value is error
    assert caplog.text == ""


@pytest.mark.parametrize("leaving", [asyncio.CancelledError, GeneratorExit])
def test_a_cancelled_stage_has_not_failed(
    leaving: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(leaving), failing_as("r1", "denoise"):
        raise leaving
    assert caplog.text == ""
