"""WS /realtime and WS /ws: a session over one WebSocket, in msgpack or in JSON."""

import asyncio
import logging
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.websockets import WebSocket, WebSocketDisconnect

from glimpse import logs
from glimpse.errors import (
    GlimpseError,
    InvalidRequest,
    NotReady,
    Overloaded,
    RateLimited,
    invalid,
)
from glimpse.fields import repeated
from glimpse.generation import SessionMemory
from glimpse.http.errors import count_refusal
from glimpse.http.pacing import Bucket
from glimpse.http.service import Service
from glimpse.http.session import Session
from glimpse.protocols import realtime
from glimpse.protocols.realtime import Codec, Frame, Json, Msgpack
from glimpse.request import REQUEST_ID, Offer

logger = logging.getLogger(__name__)

# RFC 6455, section 7.4.1, and the registry that it founds.
NORMAL, POLICY_VIOLATION, TOO_BIG, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1008, 1009, 1011, 1013

MOST_BUFFERING = 60  # fal's clients let nobody ask for more
BURST_S = 1.0
INPUT_BURST_S = 4.0  # what a lively client sends while the proxy or we are held up comes at once
FLOOD = 8  # times the messages that a session may send: nobody means well any more
FAREWELL_S = 5.0  # for a client to take the last words; one that does not read never would


@dataclass(frozen=True, slots=True)
class RealtimeOptions:
    """What a session is given unless it asks, and what it may not pass. Times in seconds.

    `max_output_bytes` in `output_window_s` is for servers that take whatever is sent, read or not:
    Serve's own proxy keeps it for a client that does not read. The window is what the proxy takes
    to find out that a client is gone. `max_input_bytes_per_s` is for the other direction: the proxy
    reads what a client sends, whether we keep up or not.
    """

    num_inference_steps: int
    max_buffering: int
    max_waiting_bytes: int
    idle_timeout_s: float
    max_frame_bytes: int
    messages_per_s: float
    max_input_bytes_per_s: float
    max_unsent: int
    max_output_bytes: int
    output_window_s: float


def router(prefix: str, service: Service, options: RealtimeOptions) -> APIRouter:
    routes = APIRouter()
    offer = replace(service.offer, default_steps=options.num_inference_steps)

    @routes.websocket(f"{prefix}/realtime")
    async def realtime_(websocket: WebSocket) -> None:
        await _Door(service, offer, options, websocket, _msgpack).serve()

    @routes.websocket(f"{prefix}/ws")
    async def ws(websocket: WebSocket) -> None:
        await _Door(service, offer, options, websocket, _json).serve()

    return routes


def _msgpack(query: Mapping[str, str]) -> Codec:
    """Raises `InvalidRequest`."""
    if "binary" in query:
        raise invalid("binary", "has a meaning only on /ws; here image_encoding decides")
    return Msgpack()


def _json(query: Mapping[str, str]) -> Codec:
    """Raises `InvalidRequest`."""
    binary = query.get("binary", "0")
    if binary not in ("0", "1"):
        raise invalid("binary", "must be 0 or 1")
    return Json(binary == "1")


def _check_given_once(query: QueryParams) -> None:
    """Raises `InvalidRequest`."""
    for name in ("binary", "max_buffering"):
        if len(query.getlist(name)) > 1:
            raise repeated(name)


def _max_buffering(query: Mapping[str, str], default: int) -> int:
    """Raises `InvalidRequest`."""
    asked = query.get("max_buffering")
    if asked is None:
        return default
    if not re.fullmatch("0*[1-9][0-9]?", asked) or int(asked[-2:]) > MOST_BUFFERING:
        raise invalid("max_buffering", f"must be a whole number from 1 to {MOST_BUFFERING}")
    return int(asked[-2:])


class _Ended(Exception):
    """The server ends the session: the client is told why, and the socket closed with a code."""

    def __init__(self, error: str, reason: str, close_code: int) -> None:
        super().__init__(error)
        self.error, self.reason, self.close_code = error, reason, close_code


class _Door:
    """One WebSocket, from its acceptance to its close."""

    def __init__(
        self,
        service: Service,
        offer: Offer,
        options: RealtimeOptions,
        websocket: WebSocket,
        codec: Callable[[Mapping[str, str]], Codec],
    ) -> None:
        self._service = service
        self._offer = offer
        self._options = options
        self._websocket = websocket
        self._codec_of = codec
        self._sent: deque[tuple[float, int]] = deque()  # when, and how many bytes
        self._sent_bytes = 0
        self._count_refusal = partial(count_refusal, websocket.scope)
        self._messages = Bucket(options.messages_per_s, BURST_S)
        self._frames = Bucket(options.messages_per_s * FLOOD, BURST_S)
        self._input = Bucket(options.max_input_bytes_per_s, INPUT_BURST_S)

    async def serve(self) -> None:
        await self._websocket.accept()
        logger.info("a session begins, key %s", logs.key())
        try:
            await self._session()
        except WebSocketDisconnect:
            logger.info("a session ends: its client left, key %s", logs.key())
        except _Ended as ended:
            await self._end(ended)
        except Exception:
            logger.exception("unexpected error in a session")
            reason = "The server failed; please connect again."
            await self._end(_Ended("INTERNAL_ERROR", reason, INTERNAL_ERROR))

    async def _end(self, ended: _Ended) -> None:
        logger.info("a session ends: %s, key %s", ended.error, logs.key())
        if ended.close_code != NORMAL:
            self._count_refusal(ended.error.lower())
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._websocket.send_text(
                    realtime.error_text(ended.error, ended.reason, request_id=None)
                )
                await self._websocket.close(ended.close_code, ended.reason)
        # The second is starlette's, after a close.
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            logger.info("the client was gone before it could be told: %s", ended.error)

    async def _session(self) -> None:
        """Raises `_Ended`, or `WebSocketDisconnect` when the client has gone."""
        query = self._websocket.query_params
        try:
            _check_given_once(query)
            codec = self._codec_of(query)
            max_buffering = _max_buffering(query, self._options.max_buffering)
        except InvalidRequest as refused:
            code = realtime.error_code(refused)
            raise _Ended(code, refused.message, POLICY_VIOLATION) from None
        try:
            session = Session(
                self._service,
                SessionMemory(uuid.uuid4().hex),
                self._websocket.state.caller,
                self._offer,
                codec,
                self._count_refusal,
                max_buffering=max_buffering,
                max_waiting_bytes=self._options.max_waiting_bytes,
                max_unsent=self._options.max_unsent,
            )
            await _until_one_ends(
                self._run(session), self._read(session, codec), self._write(session)
            )
        except (NotReady, Overloaded) as refused:
            code = realtime.error_code(refused)
            raise _Ended(code, refused.message, TRY_AGAIN_LATER) from None

    async def _run(self, session: Session) -> None:
        """While the session waits for its place its client is read, and may leave."""
        async with self._service.session(self._websocket.state.caller):
            await session.run()

    async def _read(self, session: Session, codec: Codec) -> None:
        while True:
            frame = await self._receive(session)
            request_id = None
            try:
                self._count_message()
                message = codec.decode(frame)
                request_id = _request_id(message)
                await session.put(message)
            except GlimpseError as refused:
                session.refuse(refused, request_id)

    async def _receive(self, session: Session) -> Frame:
        """The next frame. Raises `_Ended` where none comes in time, or one is too large."""
        receiving = asyncio.ensure_future(self._websocket.receive())
        idle_s = self._options.idle_timeout_s
        try:
            while not (await asyncio.wait({receiving}, timeout=idle_s))[0]:
                if not session.busy:
                    # The name is fal's: their JavaScript client takes it for an ordinary end.
                    reason = f"There was no message for {idle_s:g} seconds; connect when needed."
                    raise _Ended("TIMEOUT", reason, NORMAL)
        finally:
            receiving.cancel()
        message = receiving.result()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", NORMAL))
        data = message.get("bytes")
        frame: Frame = message["text"] if data is None else data
        if len(frame) > self._options.max_frame_bytes:
            reason = f"A message may have {self._options.max_frame_bytes} bytes."
            raise _Ended("FRAME_TOO_LARGE", reason, TOO_BIG)
        if not self._frames.take(1):
            reason = f"A session may send {self._options.messages_per_s:g} messages a second."
            raise _Ended("RATE_LIMITED", reason, POLICY_VIOLATION)
        if not self._input.take(len(frame)):
            reason = (
                f"More than {self._options.max_input_bytes_per_s:g} bytes a second; send fewer or "
                "smaller pictures."
            )
            raise _Ended("INPUT_BUDGET", reason, POLICY_VIOLATION)
        return frame

    def _count_message(self) -> None:
        """Raises `RateLimited`."""
        if not self._messages.take(1):
            rate = self._options.messages_per_s
            raise RateLimited(f"A session may send {rate:g} messages a second; this one was left.")

    async def _write(self, session: Session) -> None:
        while True:
            for frame in await session.frames():
                self._count_output(len(frame))
                if isinstance(frame, str):
                    await self._websocket.send_text(frame)
                else:
                    await self._websocket.send_bytes(frame)

    def _count_output(self, size: int) -> None:
        """Raises `_Ended` where a session is sent more than anybody would read."""
        now, options = time.monotonic(), self._options
        self._sent.append((now, size))
        self._sent_bytes += size
        while self._sent[0][0] < now - options.output_window_s:
            self._sent_bytes -= self._sent.popleft()[1]
        if self._sent_bytes > options.max_output_bytes:
            reason = (
                f"More than {options.max_output_bytes} bytes in {options.output_window_s:g} "
                "seconds; ask for fewer or smaller pictures, and read them."
            )
            raise _Ended("OUTPUT_BUDGET", reason, POLICY_VIOLATION)


def _request_id(message: Mapping[str, object]) -> str | None:
    """To say which message an error is about; what is no id is not sent back."""
    request_id = message.get("request_id")
    known = isinstance(request_id, str) and re.fullmatch(REQUEST_ID, request_id)
    return str(request_id) if known else None


async def _until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Runs them side by side; when one raises, the others are cancelled and it is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
