"""What bounds Serve's HTTP server, in the proxy or, behind HAProxy, in an ingress: it reads what a
client sends before any limit of ours can count it."""

import logging
import os
import re

# Not public, but nothing public says what Serve takes from a client's headers.
from ray.serve._private.constants import (
    SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
    SERVE_INGRESS_ROUTER_HEADER_PREFIX,
    SERVE_MULTIPLEXED_MODEL_ID,
    SERVE_SESSION_ID,
)
from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS

from glimpse.http import connections
from glimpse.http.connections import MOST_CONNECTIONS, Bounded
from glimpse.http.crowd import Crowd
from glimpse.http.front import Front
from glimpse.http.pacing import Paced

# Serve calls what it names before it listens, in each process that does.
VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = f"{__name__}:bounded"
# Variables and no settings of the application: a proxy serves all applications, and listens before
# there is one.
MOST_CONNECTIONS_VARIABLE = "GLIMPSE_MAX_CONNECTIONS"
MOST_OF_ADDRESS_VARIABLE = "GLIMPSE_MAX_CONNECTIONS_PER_ADDRESS"

# With these a client could choose its replica, or keep a picture going that nobody waits for. Bytes
# in them that are no UTF-8 make Serve answer 500.
RESERVED_HEADERS = (
    SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
    SERVE_MULTIPLEXED_MODEL_ID,
    SERVE_SESSION_ID,
    f"{SERVE_INGRESS_ROUTER_HEADER_PREFIX}*",
)
# It lists the applications. `/-/healthz` stays: KubeRay's readiness probe asks for it.
HIDDEN_PATHS = ("/-/routes",)

logger = logging.getLogger("glimpse.ingress")


def bounded() -> list[Middleware]:
    """The middleware, which Serve asks for.

    Which class of uvicorn's reads a connection cannot be chosen through Serve: ours replace those
    that it looks up under "auto". Raises `ValueError` where a variable is wrong: then Serve's proxy
    does not start, and says why.
    """
    Bounded.crowd = Crowd(
        _count(MOST_CONNECTIONS_VARIABLE) or MOST_CONNECTIONS, _count(MOST_OF_ADDRESS_VARIABLE)
    )
    HTTP_PROTOCOLS["auto"] = f"{connections.__name__}:BoundedHTTP"
    WS_PROTOCOLS["auto"] = f"{connections.__name__}:BoundedWebSocket"
    # The last one is outermost.
    return [Middleware(Paced), Middleware(Front, reserved=RESERVED_HEADERS, hidden=HIDDEN_PATHS)]


def _count(variable: str) -> int | None:
    value = os.environ.get(variable)
    if value is None:
        return None
    if not re.fullmatch("[1-9][0-9]{0,5}|1000000", value):
        raise ValueError(f"{variable} must be a whole number of connections, 1 to 1000000")
    return int(value)


def warn_if_unbounded() -> None:
    """For an ingress. It cannot see its proxy, but every node should have the same variables."""
    if os.environ.get(VARIABLE) != CALLBACK:
        logger.warning(
            "one client can take all memory of Serve's proxy: set %s=%s for every node before Ray "
            "starts, as config/serve.env does",
            VARIABLE,
            CALLBACK,
        )
