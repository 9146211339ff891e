"""A client's fields, held against a pydantic model: what is wrong is told field by field."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from glimpse.errors import InvalidRequest

MAX_PROBLEMS = 20  # told of one input; a body can have a million

Model = TypeVar("Model", bound=BaseModel)


def validate(
    model: type[Model],
    fields: Mapping[str, Any],
    ignored: frozenset[str],
    *,
    text: bool = False,
) -> Model:
    """Fields as a model has them; `text`: each comes as text, as in a form.

    Raises `InvalidRequest`, with every problem, for values that are wrong and for fields that are
    neither known nor ignored.
    """
    known = model.model_fields
    unknown = fields.keys() - known.keys() - ignored
    problems = [
        _unknown(_printable(name), known) for name in sorted(unknown, key=str)[:MAX_PROBLEMS]
    ]
    read = model.model_validate_strings if text else model.model_validate
    try:
        wanted = read({k: v for k, v in fields.items() if k in known})
    except ValidationError as failure:
        problems += problems_of(failure)
    if problems:
        raise InvalidRequest(problems[:MAX_PROBLEMS])
    return wanted


def problems_of(failure: ValidationError) -> list[dict[str, Any]]:
    """For `InvalidRequest`. Input values are left out: NaN, lone surrogates and huge values break
    the answer itself."""
    return [
        {
            "loc": ["body", *(_printable(part) for part in error["loc"])],
            "msg": error["msg"].removeprefix("Value error, "),
            "type": error["type"],
        }
        for error in failure.errors(include_url=False, include_context=False, include_input=False)
    ]


def _unknown(name: str, known: Iterable[str]) -> dict[str, Any]:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    message = "unknown field" + (f"; did you mean {near[0]}?" if near else "")
    return {"loc": ["body", name], "msg": message, "type": "extra_forbidden"}


def _printable(part: int | str) -> str:
    """A key of the client's, safe to send back: ASCII and short."""
    return str(part)[:64].encode("ascii", "backslashreplace").decode("ascii")
