"""Ray's exceptions as ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError

from glimpse.errors import GlimpseError, Overloaded, StageFailed
from glimpse.stage import lost


@contextmanager
def translated(stage: str) -> Iterator[None]:
    """Raises what the stage raised, or that it is full, or gone."""
    try:
        yield
    except RayTaskError as failure:
        cause = failure.cause
        if isinstance(cause, GlimpseError):
            raise cause from None
        if not isinstance(cause, RayError):
            raise StageFailed(stage) from failure
        raise lost(stage, cause) from failure
    except GlimpseError:  # of a call by value; one by reference wraps it
        raise
    except BackPressureError:
        raise Overloaded(f"The {stage} stage is full; please try again.") from None
    except Exception as failure:  # of Ray, of Serve, and gRPC's own, which Serve lets through
        raise lost(stage, failure) from failure
