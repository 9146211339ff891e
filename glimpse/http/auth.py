"""Who may come in: the key or the token of every request, and what that key has left.

Pure ASGI, so that WebSockets pass here as well: a handshake is refused before it is accepted, and
the lease of a session is held for as long as its door runs. Doors find a `Caller` in
`request.state.caller` or `websocket.state.caller`, and have nothing else to do.
"""

import logging
from collections.abc import Callable
from ipaddress import ip_address

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from glimpse import logs
from glimpse.errors import GlimpseError, Unauthorized
from glimpse.http import tokens
from glimpse.http.caller import Caller, of_connection
from glimpse.http.errors import refuse
from glimpse.http.leases import Leases
from glimpse.http.paths import HEALTH, path_in_app
from glimpse.http.seldom import Seldom
from glimpse.key_limits import Kind
from glimpse.keys import Key, KeyRing

logger = logging.getLogger(__name__)

TOKEN_PARAMETER = "fal_jwt_token"
# What anybody may read: whether the server is up, what its API is, and the page. The page has no
# pictures without a key.
PUBLIC = frozenset({"/", HEALTH, "/openapi.json", "/docs", "/docs/oauth2-redirect"})
PUBLIC_FILES = "/docs/static/"


class AuthMiddleware:
    """Lets in who may. `keys` gives the keys of this moment, and may raise `AccessUnavailable`."""

    def __init__(
        self, app: ASGIApp, *, keys: Callable[[], KeyRing], leases: Leases, aliases: tuple[str, ...]
    ) -> None:
        self._app = app
        self._keys = keys
        self._leases = leases
        self._aliases = aliases
        self._failures = Seldom(logger)
        self._public = PUBLIC | {f"/{alias}" for alias in aliases}
        self._streams = {"/stream", *(f"/{alias}/stream" for alias in aliases)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        if self._is_public(scope):
            state["caller"] = of_connection(scope)
            await self._app(scope, receive, send)
            return
        try:
            key = self._authenticate(scope)
            kind = _counted_as(scope)
            lease = None if kind is None else await self._leases.take(key, kind)
        except GlimpseError as refusal:
            if isinstance(refusal, Unauthorized):
                self._failures.warn(f"authentication failed, from {_address(scope)}")
            await refuse(refusal, scope, receive, send)
            return
        state["caller"] = Caller(key, key.owner, self._leases)
        try:
            with logs.of_key(key.name):
                await self._app(scope, receive, send)
        finally:
            if lease is not None:
                self._leases.release(lease)

    def _is_public(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return False
        path = path_in_app(scope)
        return path in self._public or path.startswith(PUBLIC_FILES)

    def _authenticate(self, scope: Scope) -> Key:
        keys = self._keys()
        header = Headers(scope=scope).get("authorization")
        key = self._by_token(scope, keys) if header is None else keys.find(_shown(header))
        if key is None:
            raise Unauthorized(
                "This server asks for a key: send the header authorization: Key <your key>."
            )
        return key

    def _by_token(self, scope: Scope, keys: KeyRing) -> Key | None:
        """Only where browsers cannot send a header, or fal's client does not: an address with a
        token in it ends up in logs."""
        path = path_in_app(scope)
        token = QueryParams(scope["query_string"]).get(TOKEN_PARAMETER)
        if token is None or not (scope["type"] == "websocket" or path in self._streams):
            return None
        return keys.by_id(tokens.key_id(token, keys.token_secret, path, self._aliases))


class NobodyIsAsked:
    """In its place where no key is due: what clients send as credentials is ignored, as fal's
    always send some."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["caller"] = of_connection(scope)
        await self._app(scope, receive, send)


def _address(scope: Scope) -> str:
    """The client's, if it is one: behind a proxy on this machine uvicorn has it from a header."""
    try:
        host = (scope.get("client") or ("",))[0].partition("%")[0]  # a zone may have any name
        return str(ip_address(host))
    except ValueError:
        return "an unknown address"


def _shown(header: str) -> str:
    """The key in an Authorization header: `Key …`, as fal's clients say, or `Bearer …`."""
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() in ("key", "bearer") else ""


def _counted_as(scope: Scope) -> Kind | None:
    """Only what makes pictures counts: a POST, or a WebSocket. fal's clients ask for the state of a
    queued request ten times a second."""
    if scope["type"] == "websocket":
        return Kind.SESSION
    return Kind.REQUEST if scope["method"] == "POST" else None
