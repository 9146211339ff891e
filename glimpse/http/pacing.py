"""How fast a client is read."""

from asyncio import sleep
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# More than a session may be allowed (config/settings.py), so that one that sends more still hears
# of it.
BYTES_PER_S = 64 * 2**20
BURST_S = 0.125
MESSAGE_BYTES = 16 * 2**10  # added to each message's size: small ones cost time and memory too


class Bucket:
    """Of tokens: so many come in a second, and at most those of `burst_s`, or one, are there at
    once."""

    def __init__(self, per_s: float, burst_s: float) -> None:
        self._per_s = per_s
        self._most = self._left = max(1.0, per_s * burst_s)
        self._at = monotonic()

    def take(self, tokens: float) -> bool:
        """Takes them, if there are so many."""
        self._fill()
        if self._left < tokens:
            return False
        self._left -= tokens
        return True

    def borrow(self, tokens: float) -> float:
        """Takes them even so; the seconds until they will have come."""
        self._fill()
        self._left -= tokens
        return max(0.0, -self._left / self._per_s)

    def _fill(self) -> None:
        now = monotonic()
        self._left = min(self._most, self._left + self._per_s * (now - self._at))
        self._at = now


class Paced:
    """ASGI middleware: of a WebSocket, or of a request's body, an application gets at most
    `BYTES_PER_S`, and the client waits.

    For Serve's proxy, which takes all there is and keeps it for a replica that may not come to read
    it. uvicorn stops reading from a client while nobody asks for its messages.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        bucket = Bucket(BYTES_PER_S, BURST_S)

        async def paced() -> Message:
            if wait_s := bucket.borrow(0):
                await sleep(wait_s)
            message = await receive()
            bucket.borrow(_size(message) + MESSAGE_BYTES)
            return message

        await self._app(scope, paced, send)


def _size(message: Message) -> int:
    """Of an ASGI message: a WebSocket's `bytes` or `text`, or a part of a request's body."""
    content = message.get("bytes") or message.get("text") or message.get("body") or b""
    return len(content)
