"""/api/fal/proxy: for fal's JavaScript client this server is a proxy to fal's cloud, and itself it.

The client sends what was meant for a host of fal's to one address, with the original one in a
header. The request goes on to our own route for it; nothing is fetched.
"""

from urllib.parse import SplitResult, unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from glimpse.errors import InvalidRequest
from glimpse.http.errors import refuse
from glimpse.http.paths import path_in_app

PATH = "/api/fal/proxy"
TARGET = "x-fal-target-url"
# Where the routes of each host of fal's are here.
PREFIXES = {"fal.run": "", "queue.fal.run": "/queue", "rest.fal.ai": "/rest"}


class FalProxyMiddleware:
    """Gives a request to the proxy the path and the query of its target. Who may come in is decided
    behind it, by those."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_in_app(scope) != PATH:
            await self._app(scope, receive, send)
            return
        target = _target(Headers(scope=scope).get(TARGET, ""))
        if target is None:
            hosts = ", ".join(PREFIXES)
            message = f"must be an https address of one of {hosts}; they are served from here"
            problem = {"loc": ["header", TARGET], "msg": message, "type": "value_error"}
            await refuse(InvalidRequest([problem]), scope, receive, send)
            return
        path = PREFIXES[target.netloc] + (target.path or "/")
        moved = {
            "path": scope.get("root_path", "") + unquote(path),
            "raw_path": path.encode(),
            "query_string": target.query.encode(),
        }
        await self._app({**scope, **moved}, receive, send)


def _target(url: str) -> SplitResult | None:
    try:
        target = urlsplit(url)
    except ValueError:
        return None
    return target if target.scheme == "https" and target.netloc in PREFIXES else None
