"""Changes for the engine, put in from any thread and taken by its next tick."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Change = TypeVar("Change")


class Mailbox(Generic[Change]):
    """Changes in their order, and whether a tick is due. `post_tick` puts one behind whatever else
    the thread that ticks has to do; there is never more than one.
    """

    def __init__(self, post_tick: Callable[[], None]) -> None:
        self._post_tick = post_tick
        self._changes: deque[Change] = deque()
        self._due = False
        self._lock = threading.Lock()  # so that nothing is put into the box of a loop that stops

    def __len__(self) -> int:
        return len(self._changes)

    def put(self, change: Change) -> None:
        """For any thread."""
        with self._lock:
            self._changes.append(change)
            wake, self._due = not self._due, True
        if wake:
            self._wake()

    def take(self) -> Iterator[Change]:
        """Empties the box, in a tick."""
        while self._changes:
            yield self._changes.popleft()

    def end_tick(self, more: bool) -> None:
        """The last act of each tick. Posts the next where there is `more` to do, or mail."""
        with self._lock:
            self._due = again = more or bool(self._changes)
        if again:
            self._wake()

    def _wake(self) -> None:
        try:
            self._post_tick()
        except BaseException:
            self._due = False  # the next change tries again
            raise
