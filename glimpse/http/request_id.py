"""Every answer says which request it is of."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glimpse.request import new_request_id

HEADER = "x-fal-request-id"
# Serve's own. With it Serve's log lines and ours have the same id, unless the body has another.
INCOMING_HEADER = "x-request-id"
# Of an id that a client or a proxy in front has made. It goes into log lines, Serve's too.
INCOMING_ID = re.compile("[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware:
    """Gives each HTTP request an id, in `request.state`: the one it comes with, or a new one. A
    route may put there what the body says.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        incoming = Headers(scope=scope).get(INCOMING_HEADER, "")
        state["request_id"] = incoming if INCOMING_ID.fullmatch(incoming) else new_request_id()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = state["request_id"]
            await send(message)

        await self._app(scope, receive, send_with_id)
