"""What bounds Serve's HTTP server, in the proxy or, behind HAProxy, in an ingress: it reads what a
client sends before any limit of ours can count it."""

import logging
import os
from typing import Any

from starlette.middleware import Middleware
from uvicorn import Config
from uvicorn.config import WS_PROTOCOLS
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from glimpse.http.pacing import Paced

# Serve calls what it names before it listens, in each process that does.
VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = f"{__name__}:bounded"
CLOSE_TIMEOUT_S = 2.0

logger = logging.getLogger("glimpse.ingress")


def bounded() -> list[Middleware]:
    """The middleware, which Serve asks for. For the WebSockets it has no option: they are those
    that uvicorn finds under this name."""
    WS_PROTOCOLS["auto"] = f"{__name__}:BoundedWebSockets"
    return [Middleware(Paced)]


class BoundedWebSockets(WebSocketsSansIOProtocol):
    """uvicorn's own, without compression, and with less patience for who has been told to go.

    It agrees to permessage-deflate with whoever offers it, and unfolds what it reads, 256 KiB at a
    time, to a thousand times that: a flood of zeros took the proxy to gigabytes. Pictures do not
    get smaller by it. After a close it goes on reading until the client answers: a flood, all that
    while, holds up everybody else.
    """

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        config.ws_per_message_deflate = False
        super().__init__(config, *args, **kwargs)
        self.close_timeout = CLOSE_TIMEOUT_S


def warn_if_unbounded() -> None:
    """For an ingress: every node should have the same variables, so its proxy has those it has."""
    if os.environ.get(VARIABLE) != CALLBACK:
        logger.warning(
            "one client can take all memory of Serve's proxy: set %s=%s for every node before Ray "
            "starts, as config/serve.env does",
            VARIABLE,
            CALLBACK,
        )
