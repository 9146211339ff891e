"""JSON that a client wrote, read with care."""

import json
from typing import Any, NoReturn

MOST_VALUES = 10_000
"""About so many. No request has a hundred, but text may have commas and brackets in it. A body
full of empty objects takes twenty times its size in memory, and seconds to read."""


def loads(text: str | bytes) -> Any:
    """Raises `ValueError`, also for NaN and Infinity, which are no JSON, for too many values and
    for nesting without end."""
    marks: Any = "[{," if isinstance(text, str) else (b"[", b"{", b",")
    if sum(text.count(mark) for mark in marks) > MOST_VALUES:
        raise ValueError("too many values")
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
