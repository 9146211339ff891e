"""The places of this ingress: a block of those of the whole application."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from glimpse.errors import Overloaded
from glimpse.places import Claim, CounterLost, Kind, PlaceCounter

logger = logging.getLogger(__name__)

REFUSALS = {
    Kind.PICTURES: "Every place is taken; please try again in a moment.",
    Kind.SESSIONS: "Too many open sessions; please try again later.",
}


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. The counter's leases must last for several times `renew_s`."""

    renew_s: float = 1.0
    retry_s: float = 0.2  # after the counter was lost
    patience_s: float = 15.0  # maximum wait of a request for a counter that does not answer


@dataclass(slots=True, eq=False)
class _Queued:
    count: int
    admitted: asyncio.Future[bool]


class Places:
    """Admission of one kind of work, in the order of arrival.

    Without a counter, or while no other ingress is alive, all places are held here and nobody is
    asked. Otherwise requests are admitted from the block that is held here. Where the block is used
    up they queue, and `keep` claims more.
    """

    def __init__(
        self,
        total: int,
        kind: Kind,
        counter: PlaceCounter | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._total = total
        self._kind = kind
        self._counter = counter
        self._timing = timing or Timing()
        self._few = max(1, total // 8)  # claimed beyond the need, and kept when idle
        self._holder = uuid.uuid4().hex
        self._started = time.time()
        self._number = 0
        self._shared_since: float | None = None  # None while all places are held here
        self._joined = False  # a counter has answered since then
        self._lost = False
        self._held = total
        self._peak = 0  # of `used`, since the last claim
        self._queue: deque[_Queued] = deque()
        self._wake = asyncio.Event()
        self.used = 0
        if counter is not None:
            self._start_sharing()
            self._held = 0  # until it is known who else is there

    async def take(self, count: int = 1) -> None:
        """Raises `Overloaded` where no ingress has places to spare."""
        if not self._queue and self.used + count <= self._held:
            self._use(count)
        elif self._shared_since is None or count > self._total or not await self._queued(count):
            raise Overloaded(REFUSALS[self._kind])

    def release(self, count: int = 1) -> None:
        """Waits for nothing: it is for `finally`, where a task may be on its way out."""
        self.used -= count
        self._admit()

    async def keep(self) -> None:
        """Runs as long as the ingress. Requests never call the counter themselves, because one that
        is cancelled would lose what it was granted."""
        if self._counter is None:
            return
        ingresses = 2
        while True:
            try:
                ingresses = await self._counter.ingresses()
                if ingresses == 1:
                    self._hold_all(self._counter)
                    await asyncio.sleep(self._timing.renew_s)
                else:
                    await self._share(self._counter)
            except Exception as failure:  # whatever it is: without this task nobody gets a place
                if not isinstance(failure, CounterLost):
                    logger.exception("unexpected error in sharing %s, retrying", self._kind)
                self._go_on_without(ingresses, failure)
                await asyncio.sleep(self._timing.retry_s)

    async def _share(self, counter: PlaceCounter) -> None:
        """Claims whenever requests queue, spare places are recalled, or the lease is due. Returns
        once no other ingress is alive."""
        self._start_sharing()
        recall: asyncio.Task[None] | None = None
        try:
            while (ingresses := await counter.ingresses()) > 1:
                recalled = recall is not None and recall.done()
                if recall is not None and recalled:
                    recall.result()
                self._wake.clear()
                await self._claim(counter, ingresses, recalled)
                if recall is None or recalled:
                    recall = asyncio.create_task(counter.recalled(self._kind, self._holder))
                    recall.add_done_callback(self._wake_up)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timing.renew_s):
                        await self._wake.wait()
        finally:
            if recall is not None:
                recall.cancel()

    async def _claim(self, counter: PlaceCounter, ingresses: int, recalled: bool) -> None:
        queued = list(self._queue)
        if not queued:
            self._held = min(self._held, self.used if recalled else self._needed_soon(ingresses))
        self._peak = self.used
        spare = self._held - self.used
        needed = max(0, sum(each.count for each in queued) - spare)
        more = needed > 0 or (spare == 0 and not recalled)
        self._number += 1
        claim = Claim(
            kind=self._kind,
            holder=self._holder,
            number=self._number,
            started=self._started,
            total=self._total,
            held=self._held,
            spare=spare,
            needed=needed,
            wanted=needed + self._few if more else 0,
            ingresses=ingresses,
        )
        self._held += await counter.claim(claim)
        self._joined, self._lost = True, False
        self._answer(queued)

    def _needed_soon(self, ingresses: int) -> int:
        soon = self._peak + self._few
        # The counter may turn out not to answer, and the share is for that.
        return soon if self._joined else max(soon, self._total // ingresses)

    def _start_sharing(self) -> None:
        if self._shared_since is None:
            self._shared_since = time.monotonic()
            self._joined = self._lost = False

    def _hold_all(self, counter: PlaceCounter) -> None:
        if self._shared_since is not None:
            self._shared_since = None
            self._held = self._total
            counter.close()
            self._answer(list(self._queue))

    def _go_on_without(self, ingresses: int, failure: Exception) -> None:
        """With the block that is held; a new ingress that finds no counter takes an equal share."""
        if not self._lost:
            logger.warning("the counter of %s is lost, retrying: %s", self._kind, failure)
            self._lost = True
        since = self._shared_since
        if not self._joined and since and time.monotonic() - since > self._timing.patience_s:
            self._held = max(self._held, self._total // ingresses)
            self._admit()

    def _wake_up(self, recall: asyncio.Task[None]) -> None:
        if not recall.cancelled():
            recall.exception()  # raised by the next claim, if there is one
        self._wake.set()

    async def _queued(self, count: int) -> bool:
        """Whether the request is admitted in the end."""
        queued = _Queued(count, asyncio.get_running_loop().create_future())
        self._queue.append(queued)
        self._wake.set()
        try:
            async with asyncio.timeout(self._timing.patience_s):
                return await queued.admitted
        except BaseException as failure:
            self._leave(queued)
            if isinstance(failure, TimeoutError):
                return False
            raise

    def _leave(self, queued: _Queued) -> None:
        if queued in self._queue:
            self._queue.remove(queued)
            self._admit()
        elif not queued.admitted.cancelled() and queued.admitted.result():
            self.release(queued.count)  # admitted, and cancelled before it could know

    def _admit(self) -> None:
        """The head of the queue, as far as it finds places."""
        while self._queue and self.used + self._queue[0].count <= self._held:
            self._decide(self._queue.popleft())

    def _answer(self, queued: Sequence[_Queued]) -> None:
        """There are no more places for these than what is held now."""
        for each in queued:
            if each in self._queue:
                self._queue.remove(each)
                self._decide(each)
        self._admit()

    def _decide(self, queued: _Queued) -> None:
        if queued.admitted.cancelled():
            return  # its task has yet to run
        admitted = self.used + queued.count <= self._held
        if admitted:
            self._use(queued.count)
        queued.admitted.set_result(admitted)

    def _use(self, count: int) -> None:
        self.used += count
        self._peak = max(self._peak, self.used)
