"""Who may use the server, and from where: all of it, put before the routes."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from glimpse.http import tokens
from glimpse.http.auth import AuthMiddleware, NobodyIsAsked
from glimpse.http.fal_proxy import FalProxyMiddleware
from glimpse.http.leases import Leases
from glimpse.http.origins import HostMiddleware, OnceMiddleware, OriginMiddleware, cors
from glimpse.key_limits import KeyLimits
from glimpse.keys import KeyRing


@dataclass(frozen=True, slots=True)
class KeysDue:
    """`ring` gives the keys of this moment; `limits` counts what they use. A lease is renewed every
    `renew_s`; whoever has waited `patience_s` for the counting is sent away."""

    ring: Callable[[], KeyRing]
    limits: KeyLimits
    renew_s: float
    patience_s: float


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """Names and origins as in `glimpse.http.origins`. Without `keys` nobody is asked for one."""

    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    keys: KeysDue | None


def install(app: FastAPI, access: AccessOptions, aliases: tuple[str, ...]) -> None:
    """The middleware, innermost first, and the routes of tokens."""
    if access.keys is None:
        app.add_middleware(NobodyIsAsked)
        ring = _nobodys_ring()
    else:
        due = access.keys
        leases = Leases(due.limits, renew_s=due.renew_s, patience_s=due.patience_s)
        app.add_middleware(AuthMiddleware, keys=due.ring, leases=leases, aliases=aliases)
        ring = due.ring
    app.add_middleware(FalProxyMiddleware)
    app.add_middleware(CORSMiddleware, **cors(access.origins))
    app.add_middleware(OriginMiddleware, access.origins)
    app.add_middleware(HostMiddleware, access.hosts)
    app.add_middleware(OnceMiddleware)
    # fal's clients ask a third host for tokens, which people map to /rest or to the root.
    for prefix in ("", "/rest"):
        app.include_router(tokens.router(prefix, ring, aliases))


def _nobodys_ring() -> Callable[[], KeyRing]:
    """Clients that want a token get one, which then is ignored like every credential."""
    ring = KeyRing((), secrets.token_bytes(32))
    return lambda: ring
