"""What every stage does with a failure it did not foresee."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from glimpse import logs
from glimpse.errors import GlimpseError, StageFailed

logger = logging.getLogger(__name__)


@contextmanager
def failing_as(request_id: str, stage: str) -> Iterator[None]:
    """Logs it here, where its traceback is, and raises `StageFailed`, which may be shown."""
    try:
        yield
    except GlimpseError:
        raise
    except Exception:
        with logs.request_id(request_id):
            logger.exception("the %s stage failed", stage)
        raise StageFailed(stage) from None
