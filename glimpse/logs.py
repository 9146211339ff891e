"""Log lines that carry the id of the request they belong to."""

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


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = _request_id.get()
    return True
