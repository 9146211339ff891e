"""Which names the server answers to, and which web pages may use it from a browser."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from glimpse.errors import BadRequest, Forbidden, WrongHost
from glimpse.http.errors import refuse
from glimpse.http.paths import HEALTH, path_in_app
from glimpse.http.request_id import HEADER, INCOMING_HEADER

ANY = "*"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PREFLIGHT_MAX_AGE_S = 7200  # Chromium keeps no answer to a preflight for longer
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class OnceMiddleware:
    """Refuses a header that decides who may come in and comes twice: a proxy in front may have
    looked at the other one."""

    NAMES = ("authorization", "host", "origin")

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            headers = Headers(scope=scope)
            for name in self.NAMES:
                if len(headers.getlist(name)) > 1:
                    refusal = BadRequest(f"The header {name} came more than once; send it once.")
                    await refuse(refusal, scope, receive, send)
                    return
        await self._app(scope, receive, send)


class HostMiddleware:
    """Refuses a `Host` that is not ours, so that a page whose name was made to point at this
    machine (DNS rebinding) cannot use the server through its visitor's browser. The server's health
    is told under any name, because load balancers and kubelets ask by address.

    Not Starlette's `TrustedHostMiddleware`, whose answer is plain text; ours has one shape.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._any = ANY in hosts
        self._names = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._any or _host(scope) in self._names:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http" and path_in_app(scope) == HEALTH:
            await self._app(scope, receive, send)
            return
        message = "The server does not answer to this name; access.allowed_hosts has those it does."
        await refuse(WrongHost(message), scope, receive, send)


class OriginMiddleware:
    """Refuses what a page of another origin sends, WebSockets too: browsers let those through
    whatever CORS says, and simple posts as well. Who sends no `Origin` is no browser."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._allowed = pattern(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_allowed(scope):
            await self._app(scope, receive, send)
            return
        message = "Pages of this origin may not use the server; see access.allowed_origins."
        await refuse(Forbidden(message), scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or self._allowed.fullmatch(origin):
            return True
        return _is_page_of(headers.get("host", ""), origin)


def _is_page_of(host: str, origin: str) -> bool:
    """Whether our own page sent the request. The scheme does not count, because TLS may end in
    front of us. Some proxies in front name the default port in `Host`, which browsers leave out."""
    scheme, _, page = origin.lower().partition("://")
    return host.lower() in (page, page + DEFAULT_PORTS.get(scheme, ""))


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """How Starlette's `CORSMiddleware` is set up: a page of an allowed origin may do all that our
    own page may. It may send any header, because clients add their own (`x-stainless-os`,
    `traceparent`), and the answer to a preflight repeats the names that were asked for.

    Cookies are the exception. A key is sent outright, so credentials that a browser adds by itself
    could only be those of a proxy in front.
    """
    return {
        "allow_origin_regex": pattern(origins).pattern,
        "allow_methods": METHODS,
        "allow_headers": (ANY,),
        "allow_private_network": True,
        # Browsers that do not know the wildcard read the names.
        "expose_headers": (ANY, HEADER, INCOMING_HEADER, "allow", "retry-after"),
        "max_age": PREFLIGHT_MAX_AGE_S,
    }


def pattern(origins: Sequence[str]) -> re.Pattern[str]:
    """Of `https://a.example`, `http://localhost:*` (any port) and `*`."""
    return re.compile("|".join(_one(origin) for origin in origins))


def _one(origin: str) -> str:
    if origin == ANY:
        return ".*"
    if origin.endswith(f":{ANY}"):
        return re.escape(origin.removesuffix(f":{ANY}")) + r"(:\d+)?"
    return re.escape(origin)


def _host(scope: Scope) -> str | None:
    """The name in `Host`, without the port and an IPv6 address's brackets."""
    try:
        return urlsplit(f"//{Headers(scope=scope).get('host', '')}").hostname
    except ValueError:
        return None
