"""Which warnings a session tells with a result: each with that of the message which brought it."""

from collections.abc import Iterable
from typing import Any

from glimpse.fields import field_of, renamed_warnings
from glimpse.protocols.realtime import Wanted, names
from glimpse.request import IGNORED_FIELDS

_NEVER = object()
IMAGES = ("image", "image_url")
"""A camera's are new with each message, and their warnings the same."""


class SessionWarnings:
    """Fields stay from message to message, and their warnings with them. Such a warning is told
    again once its field has another value, or once a result has been without it.

    A message may be dropped, or fail. What it brought is told with the next result.
    """

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}  # with the last result: by the value of the field
        self._passing: dict[str, int] = {}  # to be told, by the number of the message

    def arrived(self, wanted: Wanted, left_behind: Iterable[str]) -> None:
        """A message has come: `left_behind` are the warnings about what it takes the place of."""
        for warning in (*left_behind, *filter(_of_one_message, wanted.request.warnings)):
            self._passing.setdefault(warning, wanted.number)

    def due(self, wanted: Wanted, warnings: Iterable[str]) -> tuple[str, ...]:
        """The warnings to tell with the result of a message; `warnings` are all that it has."""
        passing = [each for each, number in self._passing.items() if number <= wanted.number]
        for warning in passing:
            del self._passing[warning]
        staying = {
            each: None if field_of(each) in IMAGES else wanted.fields.get(field_of(each))
            for each in renamed_warnings(warnings, names(wanted.fields))
            if not _of_one_message(each)
        }
        fresh = [each for each, value in staying.items() if self._told.get(each, _NEVER) != value]
        self._told = staying
        return (*passing, *fresh)


def _of_one_message(warning: str) -> bool:
    """About a field that is not kept."""
    return field_of(warning) in IGNORED_FIELDS
