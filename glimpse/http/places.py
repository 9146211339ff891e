"""The places of this ingress: a block of those of the whole application."""

import asyncio
import contextlib
import itertools
import logging
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace

from glimpse.errors import Overloaded
from glimpse.fair_share import Asked, judged
from glimpse.places import Answer, Claim, CounterLost, Kind, PlaceCounter

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
    asked: Asked
    admitted: asyncio.Future[bool]
    timer: asyncio.TimerHandle


class Places:
    """Admission of one kind of work. Where places run out, owners share them evenly: a request of
    an owner that has fewer than its share waits up to `wait_s` for the next place, and all others
    are refused at once (`glimpse.fair_share`).

    Without a counter, or while no other ingress is alive, all places are held here and nobody is
    asked. Otherwise requests are admitted from the block that is held here. Where the block is used
    up they queue, and `keep` claims more: the counter decides who of all ingresses gets them.
    """

    def __init__(
        self,
        total: int,
        kind: Kind,
        counter: PlaceCounter | None = None,
        timing: Timing | None = None,
        *,
        wait_s: float,
    ) -> None:
        self._total = total
        self._kind = kind
        self._counter = counter
        self._timing = timing or Timing()
        self._wait_s = wait_s
        self._few = max(1, total // 8)  # claimed beyond the need, and kept when idle
        self._holder = uuid.uuid4().hex
        self._ids = itertools.count()
        self._started = time.time()
        self._number = 0
        self._shared_since: float | None = None  # None while all places are held here
        self._joined = False  # a counter has answered since then
        self._lost = False
        self._short = False  # requests wait, here or elsewhere: each place goes by the counter
        self._held = total
        self._peak = 0  # of `used`, since the last claim
        self._queue: dict[int, _Queued] = {}  # by id, in the order of arrival
        self._wake = asyncio.Event()
        self._owners: Counter[str] = Counter()  # places in use
        self.used = 0
        if counter is not None:
            self._start_sharing()
            self._held = 0  # until it is known who else is there

    async def take(self, owner: str, count: int = 1) -> None:
        """Raises `Overloaded` where there are no places, and none become free in time."""
        if not self._queue and not self._short and self.used + count <= self._held:
            self._use(owner, count)
        elif count > self._total or not await self._queued(owner, count):
            raise Overloaded(REFUSALS[self._kind])

    def release(self, owner: str, count: int = 1) -> None:
        """Waits for nothing: it is for `finally`, where a task may be on its way out."""
        self.used -= count
        self._owners[owner] -= count
        if not self._owners[owner]:
            del self._owners[owner]
        self._serve()

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
        """Claims whenever there is a new request, the counter calls, or the lease is due. Returns
        once no other ingress is alive."""
        self._start_sharing()
        call: asyncio.Task[None] | None = None
        try:
            while (ingresses := await counter.ingresses()) > 1:
                called = call is not None and call.done()
                if call is not None and called:
                    call.result()
                self._wake.clear()
                await self._claim(counter, ingresses, called)
                if call is None or called:
                    call = asyncio.create_task(counter.called(self._kind, self._holder))
                    call.add_done_callback(self._wake_up)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timing.renew_s):
                        await self._wake.wait()
        finally:
            if call is not None:
                call.cancel()

    async def _claim(self, counter: PlaceCounter, ingresses: int, called: bool) -> None:
        if called or self._short:
            self._held = min(self._held, self.used)
        elif not self._queue:
            self._held = min(self._held, self._needed_soon(ingresses))
        self._peak = self.used
        self._number += 1
        claim = Claim(
            kind=self._kind,
            holder=self._holder,
            number=self._number,
            started=self._started,
            clock=time.monotonic(),
            total=self._total,
            held=self._held,
            used=dict(self._owners),
            asked=tuple(queued.asked for queued in self._queue.values()),
            few=self._few,
            ingresses=ingresses,
        )
        answer = await counter.claim(claim)
        self._joined, self._lost = True, False
        self._obey(answer, claim.asked)

    def _obey(self, answer: Answer, asked: tuple[Asked, ...]) -> None:
        self._held += answer.granted
        self._short = answer.short
        for each in asked:
            queued = self._queue.get(each.id)
            if queued is None:
                continue  # it has left, or found a place here meanwhile
            if each.id in answer.refused:
                self._decide(queued, False)
            elif each.id not in answer.admitted:
                self._let_wait(queued)
            elif self._fits(each):
                self._decide(queued, True)
            else:
                self._wake.set()  # others have used spare places meanwhile: it is asked for again
        if not self._short:
            self._serve()

    def _serve(self) -> None:
        """Admits from the places that are held here, and refuses where these are all. Where places
        are short in the application, the counter does."""
        if self._short:
            self._wake.set()
            return
        verdict = judged(
            [queued.asked for queued in self._queue.values()],
            free=self._held - self.used,
            total=self._total,
            used=self._owners,
        )
        for each in verdict.admitted:
            self._decide(self._queue[each.id], True)
        if self._shared_since is None:
            for each in verdict.refused:
                self._decide(self._queue[each.id], False)
            for queued in self._queue.values():
                self._let_wait(queued)

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
            self._short = False
            self._held = self._total
            counter.close()
            self._serve()

    def _go_on_without(self, ingresses: int, failure: Exception) -> None:
        """With the block that is held; a new ingress that finds no counter takes an equal share."""
        if not self._lost:
            logger.warning("the counter of %s is lost, retrying: %s", self._kind, failure)
            self._lost = True
        self._short = False
        since = self._shared_since
        if not self._joined and since and time.monotonic() - since > self._timing.patience_s:
            self._held = max(self._held, self._total // ingresses)
        self._serve()

    def _wake_up(self, call: asyncio.Task[None]) -> None:
        if not call.cancelled():
            call.exception()  # raised by the next claim, if there is one
        self._wake.set()

    async def _queued(self, owner: str, count: int) -> bool:
        """Whether the request is admitted in the end."""
        loop = asyncio.get_running_loop()
        asked = Asked(self._holder, next(self._ids), owner, count, time.monotonic())
        timer = loop.call_later(self._timing.patience_s, self._give_up, asked.id)
        queued = self._queue[asked.id] = _Queued(asked, loop.create_future(), timer)
        if self._shared_since is None:
            self._serve()
        else:
            self._wake.set()
        try:
            return await queued.admitted
        except asyncio.CancelledError:
            if queued.admitted.cancelled():
                self._leave(queued)
            elif queued.admitted.result():
                self.release(owner, count)  # admitted, and cancelled before it could know
            raise

    def _let_wait(self, queued: _Queued) -> None:
        if not queued.asked.waits:
            queued.asked = replace(queued.asked, waits=True)
            queued.timer.cancel()
            left_s = queued.asked.since + self._wait_s - time.monotonic()
            loop = asyncio.get_running_loop()
            queued.timer = loop.call_later(left_s, self._give_up, queued.asked.id)

    def _give_up(self, id: int) -> None:
        queued = self._queue[id]
        self._decide(queued, False)
        self._leave(queued)

    def _leave(self, queued: _Queued) -> None:
        queued.timer.cancel()
        self._queue.pop(queued.asked.id, None)
        self._serve()

    def _decide(self, queued: _Queued, admitted: bool) -> None:
        if queued.admitted.cancelled():
            return  # its task has yet to run, and leaves
        del self._queue[queued.asked.id]
        queued.timer.cancel()
        if admitted:
            self._use(queued.asked.owner, queued.asked.count)
        queued.admitted.set_result(admitted)

    def _fits(self, asked: Asked) -> bool:
        return self.used + asked.count <= self._held

    def _use(self, owner: str, count: int) -> None:
        self.used += count
        self._owners[owner] += count
        self._peak = max(self._peak, self.used)
