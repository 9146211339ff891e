"""Log lines that carry the id of the request they belong to."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_request_id: ContextVar[str] = ContextVar("request_id", default="-")
_key: ContextVar[str] = ContextVar("key", default="-")


def configure(level: str) -> None:
    """Sends the log of this process's `glimpse` code to standard error, once."""
    logger = logging.getLogger("glimpse")
    logger.setLevel(level)
    logger.propagate = False
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.addFilter(_add_request_id)
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s")
        )
        logger.addHandler(handler)


@contextmanager
def request_id(value: str) -> Iterator[None]:
    """Log lines written inside, and in tasks started inside, carry this id."""
    token = _request_id.set(value)
    try:
        yield
    finally:
        _request_id.reset(token)


@contextmanager
def of_key(name: str) -> Iterator[None]:
    """`key()` is this name inside, and in tasks started inside."""
    token = _key.set(name)
    try:
        yield
    finally:
        _key.reset(token)


def key() -> str:
    """The name of the key that the work at hand is for, or `-`; never the key itself."""
    return _key.get()


class Seldom:
    """Warnings of what a stranger can bring about as often as it likes: the first at once, further
    ones together, once in `every_s`. Needs a running event loop."""

    def __init__(self, logger: logging.Logger, every_s: float = 60.0) -> None:
        self._logger = logger
        self._every_s = every_s
        self._untold = 0
        self._last = ""
        self._waits = False

    def warn(self, message: str) -> None:
        self._untold += 1
        self._last = message
        if not self._waits:
            self._tell()

    def _tell(self) -> None:
        self._waits = self._untold > 0
        if not self._waits:
            return
        times = "" if self._untold == 1 else f" ({self._untold} times in {self._every_s:g} s)"
        self._logger.warning("%s%s", self._last, times)
        self._untold = 0
        asyncio.get_running_loop().call_later(self._every_s, self._tell)


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = _request_id.get()
    return True
