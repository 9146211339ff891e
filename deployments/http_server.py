"""What bounds Serve's HTTP server, in the proxy or, behind HAProxy, in an ingress: it reads what a
client sends before any limit of ours can count it."""

import logging
import os

from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS

from glimpse.http import websocket_server
from glimpse.http.pacing import Paced

# Serve calls what it names before it listens, in each process that does.
VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = f"{__name__}:bounded"

logger = logging.getLogger("glimpse.ingress")


def bounded() -> list[Middleware]:
    """The middleware, which Serve asks for.

    It has no option for how uvicorn reads HTTP and WebSockets: that is what uvicorn has under
    "auto". Of the two that read HTTP, h11 bounds the headers, to 16 KiB.
    """
    HTTP_PROTOCOLS["auto"] = HTTP_PROTOCOLS["h11"]
    WS_PROTOCOLS["auto"] = f"{websocket_server.__name__}:BoundedWebSockets"
    return [Middleware(Paced)]


def warn_if_unbounded() -> None:
    """For an ingress. It cannot see its proxy, but every node should have the same variables."""
    if os.environ.get(VARIABLE) != CALLBACK:
        logger.warning(
            "one client can take all memory of Serve's proxy: set %s=%s for every node before Ray "
            "starts, as config/serve.env does",
            VARIABLE,
            CALLBACK,
        )
