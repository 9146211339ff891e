"""Numbered events of one generation, bounded. The flow writes; doors read, as many as there are."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from glimpse.errors import GlimpseError
from glimpse.ports import Picture


@dataclass(frozen=True, slots=True)
class Accepted:
    """The generation has its place and is under way."""


@dataclass(frozen=True, slots=True)
class Step:
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Preview:
    """A denoised estimate as a picture; `rough` where no decoder made it."""

    step: int
    steps: int
    picture: Picture
    rough: bool = False


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. With several pictures: from the first to start to the last to end; `decode` is the
    work on one of them."""

    queue: float
    text_encode: float
    denoise: float
    decode: float
    total: float


@dataclass(frozen=True, slots=True)
class Final:
    """`previews_late` counts the estimates that were asked for and dropped; a rough preview is not
    among them. `warnings`: sentences about what was asked for and not done, each of which begins
    with the name of its field.
    """

    steps: int
    pictures: tuple[Picture, ...]
    timings: Timings
    previews_late: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    error: GlimpseError


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Whoever asked for it is gone, or has asked for its end."""


Event = Accepted | Step | Preview | Final | Failed | Cancelled
Passing = (Step, Preview)
Ending = (Final, Failed, Cancelled)


class EventLog:
    """Keeps at most `capacity` events. Past that the oldest steps and previews are forgotten, never
    the first event or the last. After an ending nothing can be written.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 3:
            raise ValueError("an event log needs room for a first, a passing and a last event")
        self._capacity = capacity
        self._events: deque[tuple[int, Event]] = deque()
        self._last_number = 0
        self._ended = False
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        return self._ended

    def append(self, event: Event) -> int:
        """Writes an event and gives its number, from 1. Raises `RuntimeError` after an ending."""
        if self._ended:
            raise RuntimeError(f"the generation has ended; {type(event).__name__} comes too late")
        self._last_number += 1
        self._events.append((self._last_number, event))
        if len(self._events) > self._capacity:
            self._forget_oldest()
        self._ended = isinstance(event, Ending)
        self._changed.set()
        self._changed = asyncio.Event()
        return self._last_number

    def _forget_oldest(self) -> None:
        for index, (_, event) in enumerate(self._events):
            if isinstance(event, Passing):
                del self._events[index]
                return

    async def read(self, after: int = 0) -> AsyncGenerator[tuple[int, Event], None]:
        """Events numbered above `after`, until the ending. A reader that fell behind gets only the
        newest of the previews it missed.
        """
        while True:
            changed = self._changed
            unread = [(number, event) for number, event in self._events if number > after]
            previews = [number for number, event in unread if isinstance(event, Preview)]
            for number, event in unread:
                after = number
                if isinstance(event, Preview) and number != previews[-1]:
                    continue
                yield number, event
                if isinstance(event, Ending):
                    return
                if self._changed is not changed:  # there is news: look again for newer previews
                    break
            else:
                await changed.wait()
