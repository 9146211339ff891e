"""The replicas of a stage as this process sees them: which are there, and which stand still.

Serve takes a replica out of routing when it dies or has failed three health checks. Until then a
process that is stopped, or whose torch thread hangs, keeps its calls waiting and is sent new ones.
So while calls are open their replicas are checked from here as well. One that fails, or does not
answer for `stall_s`, is a suspect: its calls are given up, and it gets no other one as long as it
is one. Where all are suspects, calls wait.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from ray.exceptions import RayActorError, RayTaskError

from glimpse.errors import StageLost, StageStalled
from glimpse.watch import Patience

T = TypeVar("T")

logger = logging.getLogger("glimpse.replicas")

LOOK_EVERY_S = 0.5
CHECK_EVERY_S = 1.0
LOOK_FOR_REPLICA_EVERY_S = 0.05

Check: TypeAlias = Callable[[], Awaitable[object]]
"""The health check of a replica. Raises `RayActorError` where its process is gone."""


class Call:
    """One call of a stage; `replica` is set when it is sent to one."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._waiting: asyncio.Timeout | None = None
        self._given_up = False
        self.replica: str | None = None

    def send(self, method: Any, *arguments: Any) -> Any:
        """`method.remote()`; the router will tell to which replica it goes."""
        token = _being_sent.set(self)
        try:
            return method.remote(*arguments)
        finally:
            _being_sent.reset(token)

    async def answer(self, awaitable: Awaitable[T]) -> T:
        """Raises `StageStalled` when the call is given up."""
        if self._given_up:
            raise StageStalled(self._stage)
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await awaitable
        except TimeoutError:
            if not self._given_up:
                raise
            raise StageStalled(self._stage) from None
        finally:
            self._waiting = None

    def give_up(self) -> None:
        if self._given_up:
            return
        self._given_up = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())


# Serve routes a call in a copy of its caller's context.
_being_sent: contextvars.ContextVar[Call | None] = contextvars.ContextVar("call", default=None)


def sent_to(replica: str | None) -> None:
    """For the router: the call that it routes in this context goes to that replica, or to none
    for now."""
    call = _being_sent.get()
    if call is not None:
        call.replica = replica


class _Watched:
    """A replica that is being checked. Silence counts only as far as this process saw it: at most
    two looks for each look, so that one that was itself suspended does not blame others."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._checking: asyncio.Task[object] | None = None
        self._due_s = 0.0  # until the next check
        self.silent_s = 0.0

    def look(self, passed_s: float) -> Exception | None | bool:
        """True: healthy. An exception: what the check raised. None: no answer yet."""
        self._due_s -= passed_s
        if self._checking is None:
            if self._due_s <= 0:
                # In a context of its own: what is called in a request's is cancelled with it.
                self._checking = asyncio.create_task(
                    _answer(self._check), context=contextvars.Context()
                )
                self._due_s = CHECK_EVERY_S
            return None
        if not self._checking.done():
            self.silent_s += passed_s
            return None
        done, self._checking = self._checking, None
        failure = done.exception()
        if failure is None:
            self.silent_s = 0.0
            return True
        assert isinstance(failure, Exception)
        return failure

    def begin_anew(self) -> None:
        """What a check that is under way finds is of no interest any more."""
        self.close()
        self._due_s = 0.0

    def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None


async def _answer(check: Check) -> object:
    return await check()


class Replicas:
    """The replicas of one deployment. The router fills them in, perhaps on another thread."""

    def __init__(
        self,
        deployment: str,
        clock: Callable[[], float] = time.monotonic,
        patience: Patience | None = None,
    ) -> None:
        self._deployment = deployment
        self._clock = clock
        self._patience = patience or Patience()  # since a replica is silent
        self._there: Mapping[str, Check] = {}  # replaced as a whole, never changed
        self._suspects: frozenset[str] = frozenset()
        self._calls: set[Call] = set()
        self._watched: dict[str, _Watched] = {}
        self._watching: asyncio.Task[None] | None = None
        self.stall_s = 5.0
        self.on_stall: Callable[[], None] = lambda: None

    # For the router:

    def update(self, there: Mapping[str, Check]) -> None:
        self._there = there

    def trusted(self, replicas: list[Any], name: Callable[[Any], str]) -> list[Any]:
        """The replicas without suspects; all where they are all suspects."""
        suspects = self._suspects
        return [each for each in replicas if name(each) not in suspects] or replicas

    # For those that call:

    @property
    def present(self) -> bool:
        return not self._there.keys() <= self._suspects

    async def until_present(self) -> None:
        """Returns once a replica is there that is no suspect."""
        while not self.present:
            await asyncio.sleep(LOOK_FOR_REPLICA_EVERY_S)

    @contextmanager
    def call(self, stage: str) -> Iterator[Call]:
        """A call, watched until the block is left. A replica that it loses becomes a suspect."""
        call = Call(stage)
        self._calls.add(call)
        self._watch()
        try:
            yield call
        except StageLost as lost:
            if lost.stage == stage and call.replica is not None:
                self._suspect(
                    call.replica, "it says so" if isinstance(lost, StageStalled) else None
                )
                self._watch()
            raise
        finally:
            self._calls.discard(call)

    def _suspect(self, replica: str, stalled: str | None) -> None:
        """`stalled`: by what that was noticed."""
        if replica in self._suspects:
            return
        self._suspects |= {replica}
        if stalled is not None:
            logger.warning("replica %s of %s has stalled: %s", replica, self._deployment, stalled)
            self.on_stall()
        if replica in self._watched:
            self._watched[replica].begin_anew()  # an answer of before clears no one

    def _watch(self) -> None:
        if self._watching is None:
            self._watching = asyncio.create_task(
                self._until_nothing_is_open(), context=contextvars.Context()
            )

    async def _until_nothing_is_open(self) -> None:
        try:
            looked = self._clock()
            while self._calls or self._suspects:
                await asyncio.sleep(LOOK_EVERY_S)
                now = self._clock()
                await self._measure_patience()
                self._look(min(now - looked, 2 * LOOK_EVERY_S))
                looked = now
        finally:
            for each in self._watched.values():
                each.close()
            self._watched.clear()
            self._watching = None

    async def _measure_patience(self) -> None:
        """On a starved machine replicas take longer to answer."""
        if all(2 * each.silent_s < self.stall_s for each in self._watched.values()):
            self._patience.forget()
        else:
            await asyncio.to_thread(self._patience.measure)

    def _look(self, passed_s: float) -> None:
        there, watched = self._there, self._watched
        busy = {call.replica for call in self._calls if call.replica is not None}
        # One that drains gets no more calls, and is watched as long as it has some.
        self._suspects &= there.keys() | busy
        for replica in (busy | self._suspects) & there.keys() - watched.keys():
            watched[replica] = _Watched(there[replica])
        for replica in watched.keys() - busy - self._suspects:
            watched.pop(replica).close()
        for replica, state in watched.items():
            found = state.look(passed_s)
            if found is True:
                self._suspects -= {replica}
            elif isinstance(found, RayActorError):
                self._suspect(replica, None)  # its calls fail by themselves
            elif found is not None:
                cause = found.cause if isinstance(found, RayTaskError) else found
                self._give_up(replica, f"its health check fails: {cause}")
            elif state.silent_s >= self.stall_s * self._patience.times:
                self._give_up(replica, f"it has not answered for {state.silent_s:.1f} s")

    def _give_up(self, replica: str, why: str) -> None:
        self._suspect(replica, why)
        for call in [call for call in self._calls if call.replica == replica]:
            call.give_up()


_of_deployment: dict[tuple[str, str], Replicas] = {}


def replicas_of(application: str, deployment: str) -> Replicas:
    """The ones of this process, which its routers and its handles share."""
    return _of_deployment.setdefault((application, deployment), Replicas(deployment))
