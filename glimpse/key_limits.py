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


@dataclass(frozen=True, slots=True)
class Lease:
    """One open request or session of a key; `id` is made by who holds it."""

    id: str
    key: str
    kind: Kind


class KeyLimits(Protocol):
    """The place where it is counted: in this process, or a deployment of its own."""

    async def enter(self, lease: Lease, limits: Limits) -> RateLimited | None:
        """Takes the lease and counts it in the key's minute, or says why not. Raises
        `AccessUnavailable` where the place cannot be reached."""
        ...

    async def settle(self, held: Sequence[Lease], released: Sequence[Lease]) -> None:
        """Gives back some leases and renews others, which lapse otherwise. One that is not known,
        because the counting began anew, is taken. Raises `AccessUnavailable`."""
        ...


class KeyCounts:
    """The counting itself: pure. Times are seconds on any one clock.

    At most `requests_per_minute` entries lie in any span of 60 seconds. Leases that nobody has
    renewed for `lease_s` are over: their holder died.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._entries: defaultdict[str, deque[float]] = defaultdict(deque)
        self._until: defaultdict[tuple[str, Kind], dict[str, float]] = defaultdict(dict)

    def enter(self, lease: Lease, limits: Limits, now: float) -> RateLimited | None:
        leases = self._open(lease, now)
        most = limits.sessions if lease.kind is Kind.SESSION else limits.concurrent_requests
        if len(leases) >= most:
            return RateLimited(
                f"This key has as many {lease.kind}s open as it may ({most}); end one first.",
                CROWDED_RETRY_S,
            )
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
        leases[lease.id] = now + self._lease_s
        return None

    def settle(self, held: Sequence[Lease], released: Sequence[Lease], now: float) -> None:
        for lease in held:
            self._until[lease.key, lease.kind][lease.id] = now + self._lease_s
        for lease in released:
            self._until[lease.key, lease.kind].pop(lease.id, None)

    def _open(self, lease: Lease, now: float) -> dict[str, float]:
        """The leases of the same key and kind that still hold."""
        leases = self._until[lease.key, lease.kind]
        for id in [id for id, until in leases.items() if until <= now]:
            del leases[id]
        return leases


class CountedHere:
    """The counting in this process."""

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = KeyCounts(lease_s)
        self._clock = clock

    async def enter(self, lease: Lease, limits: Limits) -> RateLimited | None:
        return self._counts.enter(lease, limits, self._clock())

    async def settle(self, held: Sequence[Lease], released: Sequence[Lease]) -> None:
        self._counts.settle(held, released, self._clock())
