"""Who asks, as doors and admission see it."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers
from starlette.types import Scope

from glimpse.errors import Forbidden
from glimpse.http.leases import Leases
from glimpse.key_limits import Kind
from glimpse.keys import Key


@dataclass(frozen=True, slots=True)
class Caller:
    """`key` and `leases` are None where no key is due, and on public routes. Places and turns are
    shared out among owners. An `owner` is a key or, without one, a connection; it is a hash."""

    key: Key | None
    owner: str
    leases: Leases | None = None

    async def take_pictures(self, count: int) -> Callable[[], None]:
        """Counts so many pictures as the key's, until the returned function is called.

        Raises `RateLimited` where the key has too many already, `Forbidden` where it may never have
        so many, and `AccessUnavailable` where nobody counts.
        """
        if self.key is None or self.leases is None:
            return _nothing
        most = self.key.limits.pictures
        if count > most:
            raise Forbidden(
                f"This key may have {most} pictures in progress; ask for at most {most} at once."
            )
        lease = await self.leases.take(self.key, Kind.PICTURE, count)
        return partial(self.leases.release, lease)


NOBODY = Caller(None, "")
"""The caller of what no client asked for."""


def of_connection(scope: Scope) -> Caller:
    """The caller where no key is due. Its owner is the TCP connection.

    Serve's proxy passes on the addresses of its connection with the client. Behind HAProxy they are
    those of HAProxy's connection with the ingress, which carries one request at a time, as does the
    client's. Where they are not known, this request alone is the owner. So it is where the request
    says whom it was forwarded for: uvicorn may have put that in their place, anybody can write it,
    and many clients may share an address.
    """
    client = scope.get("client")
    if client is None or not client[1] or "x-forwarded-for" in Headers(scope=scope):
        return Caller(None, uuid.uuid4().hex[:16])
    ends = repr((*client, *(scope.get("server") or ())))
    return Caller(None, hashlib.sha256(ends.encode()).hexdigest()[:16])


def _nothing() -> None:
    """Gives back what was not taken."""
