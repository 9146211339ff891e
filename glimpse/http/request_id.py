"""Every answer says which request it is of."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glimpse.request import REQUEST_ID, new_request_id

HEADER = "x-fal-request-id"
# Serve's own. With it Serve's log lines and ours have the same id, unless the body has another.
INCOMING_HEADER = "x-request-id"


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
        state["request_id"] = incoming if re.fullmatch(REQUEST_ID, incoming) else new_request_id()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = state["request_id"]
            await send(message)

        await self._app(scope, receive, send_with_id)
