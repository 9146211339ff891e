"""Failures of a stage that nobody foresaw: logged where they are met, told without internals."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from glimpse import logs
from glimpse.errors import GlimpseError, StageFailed, StageLost, StageStalled
from glimpse.watch import Stalled

logger = logging.getLogger(__name__)


@contextmanager
def failing_as(request_id: str, stage: str) -> Iterator[None]:
    """Logs it here, where its traceback is, and raises `StageFailed`, which may be shown.
    `Stalled`, which the watchdog has logged, becomes `StageStalled`."""
    try:
        yield
    except GlimpseError:
        raise
    except Stalled:
        raise StageStalled(stage) from None
    except Exception:
        with logs.request_id(request_id):
            logger.exception("the %s stage failed", stage)
        raise StageFailed(stage) from None


def lost(stage: str, cause: Exception) -> StageLost:
    """What to raise where a stage's process is gone; the log has what it was noticed by."""
    logger.warning("the %s stage is lost: %s: %s", stage, type(cause).__name__, cause)
    return StageLost(stage)
