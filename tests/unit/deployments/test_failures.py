"""Ray's exceptions as ours. Ray is imported, never started."""

import pytest
from ray.exceptions import ActorDiedError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError

from deployments.failures import translated
from glimpse.errors import GlimpseError, Overloaded, StageFailed, StageLost, invalid


def of_a_task(cause: Exception) -> Exception:
    """As it arrives from a replica that raised `cause`."""
    error = RayTaskError("encode", "Traceback …", cause)
    return error.as_instanceof_cause()  # type: ignore[no-any-return]


OURS = invalid("image_url", "is damaged")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (of_a_task(OURS), type(OURS)),
        (of_a_task(StageFailed("denoise")), StageFailed),
        (StageFailed("denoise"), StageFailed),  # by value nothing is wrapped
        (of_a_task(ValueError("internals")), StageFailed),
        (of_a_task(ActorDiedError()), StageLost),
        (ActorDiedError(), StageLost),
        (TaskCancelledError(), StageLost),
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), Overloaded),
        (RuntimeError("Unexpected error of gRPC"), StageLost),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_what_arrives_from_ray(raised: Exception, expected: type[GlimpseError]) -> None:
    with pytest.raises(GlimpseError) as caught:
        with translated("denoise"):
            raise raised
    assert type(caught.value) is expected
    assert "internals" not in caught.value.message and "Traceback" not in caught.value.message


@pytest.mark.parametrize("raised", [OURS, of_a_task(OURS)])
def test_what_a_stage_says_is_wrong_arrives_whole(raised: Exception) -> None:
    with pytest.raises(type(OURS)) as caught:
        with translated("image_encode"):
            raise raised
    assert caught.value.problems == OURS.problems
