"""A client's fields, held against a pydantic model: what is wrong is told field by field."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from glimpse.errors import InvalidRequest, invalid

MAX_PROBLEMS = 20  # told of one input; a body can have a million

Model = TypeVar("Model", bound=BaseModel)


def whole(value: Any) -> Any:
    """A float without a fraction as the integer that it is, also in an object of numbers; anything
    else as it came. To JSON Schema 4.0 is an integer, and many clients have no other numbers.
    """
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return _whole(value)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object as it was written. Raises `InvalidRequest` for a name that comes
    twice: only one of its values could be meant."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise repeated(name)
        fields[name] = value
    return fields


def repeated(name: str) -> InvalidRequest:
    """The error about a field that is given more than once."""
    return invalid(_printable(name), "is given more than once; one is taken")


def validate(
    model: type[Model],
    fields: Mapping[str, Any],
    ignored: frozenset[str],
    *,
    hints: Mapping[str, str] | None = None,
    text: bool = False,
) -> Model:
    """Fields as a model has them; `text`: each comes as text, as in a form. `hints` go behind what
    is wrong with some of them.

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
        wanted = read({k: whole(v) for k, v in fields.items() if k in known})
    except ValidationError as failure:
        problems += [_hinted(each, hints or {}) for each in problems_of(failure)]
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


def _hinted(problem: dict[str, Any], hints: Mapping[str, str]) -> dict[str, Any]:
    hint = hints.get(problem["loc"][-1])
    return problem if hint is None else problem | {"msg": f"{problem['msg']}; {hint}"}


def renamed(error: InvalidRequest, names: Mapping[str, str]) -> InvalidRequest:
    """An error with the client's names for fields, by the names that they have further in."""
    return InvalidRequest(
        [
            {**problem, "loc": [names.get(part, part) for part in problem["loc"]]}
            for problem in error.problems
        ]
    )


def renamed_warnings(warnings: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """Warnings that begin with the client's names for fields, likewise."""
    return tuple(names.get(field_of(each), field_of(each)) + _rest(each) for each in warnings)


def field_of(warning: str) -> str:
    """The name that a warning begins with."""
    return re.split(r"\W", warning, maxsplit=1)[0]


def _rest(warning: str) -> str:
    return warning[len(field_of(warning)) :]


def _unknown(name: str, known: Iterable[str]) -> dict[str, Any]:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    message = "unknown field" + (f"; did you mean {near[0]}?" if near else "")
    return {"loc": ["body", name], "msg": message, "type": "extra_forbidden"}


def _printable(part: int | str) -> str:
    """A key of the client's, safe to send back: ASCII and short."""
    return str(part)[:64].encode("ascii", "backslashreplace").decode("ascii")
