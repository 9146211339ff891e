"""Calls that wait for the torch thread at the same time, made as one."""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from glimpse.torch_thread import TorchThread

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    kind: Hashable
    most: int
    future: "Future[Result]" = field(default_factory=Future)


class Batches(Generic[Item, Result]):
    """One item in, one result out; on the torch thread, one call for all the items that wait.

    `function` takes items and gives a result for each, in their order. Those of one call are of one
    `kind`, and `most` says how many like the first it may have, which is the one that has waited
    longest. A call puts the next behind whatever else the thread has to do by then: so between two
    ticks of an engine on the same thread there is one call at most, however many items wait.
    """

    def __init__(
        self,
        thread: TorchThread,
        function: Callable[[list[Item]], list[Result]],
        *,
        most: Callable[[Item], int],
        kind: Callable[[Item], Hashable] = lambda item: None,
    ) -> None:
        self._thread = thread
        self._function = function
        self._most = most
        self._kind = kind
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._posted = False
        self._lock = threading.Lock()

    async def run(self, item: Item) -> Result:
        """The item's result. Raises what its call raised, for all that were in it and nobody else.
        An item whose caller is cancelled before its turn is left out. Raises `Stalled` once the
        thread stands still."""
        waiting: _Waiting[Item, Result] = _Waiting(item, self._kind(item), self._most(item))
        with self._lock:
            self._waiting.append(waiting)
            wake, self._posted = not self._posted, True
        if wake:
            self._wake()
        return await self._thread.result(waiting.future)

    # All below runs on the torch thread.

    def _run_next(self) -> None:
        try:
            with self._lock:
                batch = self._take()
            if batch:
                self._settle(batch)
        finally:
            with self._lock:
                self._posted = bool(self._waiting)
            if self._posted:
                self._wake()

    def _wake(self) -> None:
        try:
            self._thread.post(self._run_next)
        except BaseException:
            self._posted = False  # the next item tries again
            raise

    def _take(self) -> list[_Waiting[Item, Result]]:
        """Those of the next call; they wait no more."""
        batch: list[_Waiting[Item, Result]] = []
        waiting, self._waiting = self._waiting, deque()
        try:
            for each in waiting:
                first = batch[0] if batch else each
                if each.kind != first.kind or (batch and len(batch) >= first.most):
                    self._waiting.append(each)
                elif each.future.set_running_or_notify_cancel():
                    batch.append(each)
        except Exception as failure:  # kinds that cannot be compared, say
            self._waiting.clear()
            _fail(waiting, failure)
            return []
        return batch

    def _settle(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = self._function([each.item for each in batch])
            settled = list(zip(batch, results, strict=True))
        except BaseException as failure:  # whatever it is: no one may wait for ever
            if isinstance(failure, Exception):
                self._thread.check_device(failure)
            _fail(batch, failure)
        else:
            for each, result in settled:
                each.future.set_result(result)


def _fail(waiting: Iterable[_Waiting[Item, Result]], failure: BaseException) -> None:
    for each in waiting:
        if not each.future.done():
            each.future.set_exception(failure)
