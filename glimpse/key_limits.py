"""What each key has used of its limits, counted in one place for every replica of the ingress."""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from glimpse.errors import RateLimited
from glimpse.keys import Limits

WINDOW_S = 60.0
CROWDED_RETRY_S = 1


class Kind(StrEnum):
    """What a lease is held for."""

    REQUEST = "request"
    SESSION = "session"
    PICTURE = "picture"


@dataclass(frozen=True, slots=True)
class Lease:
    """An open request or session of a key, or so many of its pictures; `id` is made by who holds
    it."""

    id: str
    key: str
    kind: Kind
    count: int = 1


class KeyLimits(Protocol):
    """The place where it is counted: in this process, or a deployment of its own."""

    async def enter(self, lease: Lease, limits: Limits) -> RateLimited | None:
        """Takes the lease, or says why not. Requests and sessions count in the key's minute. Raises
        `AccessUnavailable` where the place cannot be reached."""
        ...

    async def settle(self, held: Sequence[Lease], released: Sequence[Lease]) -> None:
        """Gives back some leases and renews others, which lapse otherwise. One that is not known,
        because the counting began anew, is taken. Raises `AccessUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class _Open:
    count: int
    until: float


class KeyCounts:
    """The counting itself: pure. Times are seconds on any one clock.

    At most `requests_per_minute` entries lie in any span of 60 seconds. Leases that nobody has
    renewed for `lease_s` are over: their holder died.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._entries: defaultdict[str, deque[float]] = defaultdict(deque)
        self._open: defaultdict[tuple[str, Kind], dict[str, _Open]] = defaultdict(dict)

    def enter(self, lease: Lease, limits: Limits, now: float) -> RateLimited | None:
        refusal = self._crowded(lease, limits, now)
        if refusal is None and lease.kind is not Kind.PICTURE:
            refusal = self._hurried(lease, limits, now)
        if refusal is None:
            self._take(lease, now)
        return refusal

    def settle(self, held: Sequence[Lease], released: Sequence[Lease], now: float) -> None:
        for lease in held:
            self._take(lease, now)
        for lease in released:
            self._open[lease.key, lease.kind].pop(lease.id, None)

    def _take(self, lease: Lease, now: float) -> None:
        self._open[lease.key, lease.kind][lease.id] = _Open(lease.count, now + self._lease_s)

    def _crowded(self, lease: Lease, limits: Limits, now: float) -> RateLimited | None:
        """Where the key has too many open of the kind."""
        most = {
            Kind.REQUEST: limits.concurrent_requests,
            Kind.SESSION: limits.sessions,
            Kind.PICTURE: limits.pictures,
        }[lease.kind]
        leases = self._open[lease.key, lease.kind]
        for id in [id for id, open in leases.items() if open.until <= now]:
            del leases[id]
        if sum(open.count for open in leases.values()) + lease.count <= most:
            return None
        if lease.kind is Kind.PICTURE:
            message = (
                f"This key may have {most} pictures in progress; please try again when some are "
                "ready."
            )
        else:
            message = f"This key has as many {lease.kind}s open as it may ({most}); end one first."
        return RateLimited(message, CROWDED_RETRY_S)

    def _hurried(self, lease: Lease, limits: Limits, now: float) -> RateLimited | None:
        """Where the key has used up its minute. Otherwise the lease counts in it."""
        entries = self._entries[lease.key]
        while entries and entries[0] <= now - WINDOW_S:
            entries.popleft()
        if len(entries) >= limits.requests_per_minute:
            return RateLimited(
                f"This key may ask {limits.requests_per_minute} times a minute; "
                "please try again later.",
                max(1, math.ceil(entries[0] + WINDOW_S - now)),
            )
        entries.append(now)
        return None


class CountedHere:
    """The counting in this process."""

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = KeyCounts(lease_s)
        self._clock = clock

    async def enter(self, lease: Lease, limits: Limits) -> RateLimited | None:
        return self._counts.enter(lease, limits, self._clock())

    async def settle(self, held: Sequence[Lease], released: Sequence[Lease]) -> None:
        self._counts.settle(held, released, self._clock())
