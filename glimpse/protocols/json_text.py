"""JSON that a client wrote, read with care."""

import json
from typing import Any, NoReturn

from glimpse.fields import without_repeats

MOST_VALUES = 10_000
"""About so many. No request has a hundred, but text may have commas and brackets in it. A body
full of empty objects takes twenty times its size in memory, and seconds to read."""


class NotRead(ValueError):
    """JSON that cannot be read. Its text goes on after "the body" or "the message"."""


def loads(text: str | bytes) -> Any:
    """Raises `NotRead`, also for NaN and Infinity, which are no JSON, for too many values and for
    nesting without end; `InvalidRequest` for a field that is given twice."""
    marks: Any = "[{," if isinstance(text, str) else (b"[", b"{", b",")
    if sum(text.count(mark) for mark in marks) > MOST_VALUES:
        raise NotRead("has too many values")
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=without_repeats)
    except RecursionError:
        raise NotRead("is not valid JSON: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise NotRead("is empty") from None
        place = f"line {error.lineno}, column {error.colno}"
        raise NotRead(f"is not valid JSON: there is a mistake at {place}") from None
    except UnicodeDecodeError:
        raise NotRead("is not valid JSON: it is not UTF-8") from None
    except NotRead:
        raise
    except ValueError:
        raise NotRead("is not valid JSON: it has a number of thousands of digits") from None


def _refuse(name: str) -> NoReturn:
    raise NotRead("is not valid JSON (NaN and Infinity are not either)")
