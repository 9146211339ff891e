"""A message in msgpack that a client wrote, read with care. Each cause has its own words."""

from typing import Any, NoReturn

import msgpack

from glimpse.errors import InvalidMessage
from glimpse.fields import without_repeats

MOST_ENTRIES = 64
"""Of a map or an array in a message, and of those a message. It has far fewer, and a claim of more
costs memory before it is found to be empty; 15 MB of empty arrays in one another are a gigabyte."""

TIMESTAMP = -1  # the extension type that msgpack itself defines


def loads(frame: bytes) -> Any:
    """Raises `InvalidMessage`; `InvalidRequest` for a field that is given twice."""
    if not frame:
        raise InvalidMessage("The message is empty.")
    reading = _Reading()
    try:
        return msgpack.unpackb(
            frame,
            max_array_len=MOST_ENTRIES,
            max_map_len=MOST_ENTRIES,
            strict_map_key=False,  # `_Reading` says more than msgpack would
            object_pairs_hook=reading.map,
            list_hook=reading.array,
            ext_hook=_refuse_extension,
        )
    except msgpack.ExtraData:
        raise InvalidMessage(
            "There are bytes behind the message; send one message in a frame."
        ) from None
    except msgpack.StackError:
        raise InvalidMessage("The message is nested too deeply.") from None
    except UnicodeDecodeError:
        raise InvalidMessage(
            "A text in the message is not UTF-8. Send pictures as msgpack's bin: the old format, "
            "which has raw strings for both, is not taken (in msgpack-python: use_bin_type=True)."
        ) from None
    # Damaged messages make msgpack raise all of these, and its own, which are ValueErrors.
    except (ValueError, TypeError, RecursionError, OverflowError):
        raise InvalidMessage(
            "This is no msgpack message that can be read: it is damaged, ends too early, or has a "
            f"map or an array of more than {MOST_ENTRIES} entries."
        ) from None


class _Reading:
    """Sees every map and array of a message as soon as it is read. Raises `InvalidMessage`."""

    def __init__(self) -> None:
        self._left = MOST_ENTRIES

    def map(self, pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        if not all(isinstance(key, str) for key, _ in pairs):
            raise InvalidMessage("A key of a map in the message is no text; send keys as str.")
        self._count(value for _, value in pairs)
        return without_repeats(pairs)

    def array(self, values: list[Any]) -> list[Any]:
        self._count(values)
        return values

    def _count(self, values: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise InvalidMessage(f"The message has more than {MOST_ENTRIES} maps and arrays.")
        if any(isinstance(value, msgpack.Timestamp) for value in values):
            _refuse_extension(TIMESTAMP, b"")


def _refuse_extension(kind: int, data: bytes) -> NoReturn:
    name = f"{kind}, a timestamp" if kind == TIMESTAMP else str(kind)
    raise InvalidMessage(
        f"The message has a value of the extension type {name}; send plain values of msgpack."
    )
