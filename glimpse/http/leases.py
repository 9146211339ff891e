"""The leases that this process holds: given back and renewed in the background."""

import asyncio
import contextlib
import contextvars
import logging
import uuid

from glimpse.errors import AccessUnavailable
from glimpse.key_limits import KeyLimits, Kind, Lease
from glimpse.keys import Key

logger = logging.getLogger(__name__)


class Leases:
    """Held for a request, a session or pictures. A lease that is lost with this process lapses
    where it is counted; `renew_s` must be well below the time it takes."""

    def __init__(self, limits: KeyLimits, *, renew_s: float, patience_s: float) -> None:
        self._limits = limits
        self._renew_s = renew_s
        self._patience_s = patience_s
        self._held: dict[str, Lease] = {}
        self._released: dict[str, Lease] = {}
        self._given_back = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def take(self, key: Key, kind: Kind, count: int = 1) -> Lease:
        """Raises `RateLimited`, or `AccessUnavailable` where nobody counts."""
        lease = Lease(uuid.uuid4().hex, key.name, kind, count)
        try:
            async with asyncio.timeout(self._patience_s):
                refusal = await self._limits.enter(lease, key.limits)
        except BaseException as failure:
            self._give_back(lease)  # it may have been taken all the same
            if isinstance(failure, TimeoutError):
                raise AccessUnavailable("Limits cannot be checked; please try again.") from None
            raise
        if refusal is not None:
            raise refusal
        self._held[lease.id] = lease
        self._start_keeping()
        return lease

    def release(self, lease: Lease) -> None:
        """Waits for nothing: it is for `finally`, where a task may be on its way out."""
        del self._held[lease.id]
        self._give_back(lease)

    def _give_back(self, lease: Lease) -> None:
        self._released[lease.id] = lease
        self._given_back.set()
        self._start_keeping()

    def _start_keeping(self) -> None:
        if self._keeper is None:
            # In a context of its own: calls made in a request's are cancelled with that request.
            self._keeper = asyncio.create_task(self._keep(), context=contextvars.Context())

    async def _keep(self) -> None:
        """Runs while there is something to give back or to renew."""
        try:
            while self._held or self._released:
                if not self._released:
                    await self._until_given_back_or_due()
                await self._settle()
        finally:
            self._keeper = None

    async def _until_given_back_or_due(self) -> None:
        self._given_back.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._renew_s):
                await self._given_back.wait()

    async def _settle(self) -> None:
        released = dict(self._released)
        try:
            async with asyncio.timeout(self._patience_s):
                await self._limits.settle(list(self._held.values()), list(released.values()))
        except (AccessUnavailable, TimeoutError):
            logger.warning("what keys use cannot be counted just now; it is told again")
            await asyncio.sleep(self._patience_s)
            return
        for id in released:
            del self._released[id]
