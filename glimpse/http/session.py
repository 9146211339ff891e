"""A realtime session: messages in, results out, in the order of the messages."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from glimpse.errors import GlimpseError
from glimpse.event_log import Failed, Final, Preview
from glimpse.generation import SessionMemory
from glimpse.http.caller import Caller
from glimpse.http.readers import look
from glimpse.http.service import Service
from glimpse.ports import Priority
from glimpse.protocols import realtime
from glimpse.protocols.realtime import Frame, Result, Wanted
from glimpse.protocols.session_warnings import SessionWarnings
from glimpse.request import Offer


class Session:
    """Makes one picture at a time, and before all others in the engine.

    At most `max_buffering` messages wait, and so many that their input pictures have
    `max_waiting_bytes`; then the oldest is dropped. With 1 the newest wins: a running job that has
    been overtaken is stopped, but never two in a row, so that results keep coming when messages
    come faster than the model can follow. At most `max_unsent` frames wait for the client to read;
    then, too, the oldest go.
    """

    def __init__(
        self,
        service: Service,
        memory: SessionMemory,
        caller: Caller,
        offer: Offer,
        codec: realtime.Codec,
        count_refusal: Callable[[str], None],
        *,
        max_buffering: int,
        max_waiting_bytes: int,
        max_unsent: int,
    ) -> None:
        self._service = service
        self._memory = memory
        self._caller = caller
        self._offer = offer
        self._codec = codec
        self._count_refusal = count_refusal
        self._max_buffering = max_buffering
        self._max_waiting_bytes = max_waiting_bytes
        self._max_unsent = max_unsent
        self._fields: dict[str, Any] = {}
        self._messages = 0
        self._warnings = SessionWarnings()
        self._waiting: deque[Wanted] = deque()
        self._arrived = asyncio.Event()
        self._making: asyncio.Task[None] | None = None
        self._overtakable = False
        self._unsent: deque[Result | str] = deque()
        self._made = asyncio.Event()
        self._dropped = 0

    @property
    def busy(self) -> bool:
        return self._making is not None or bool(self._waiting)

    async def put(self, message: Mapping[str, Any]) -> None:
        """Takes a message. Raises `InvalidRequest`; nothing of a message that does is kept.

        Messages are put one after another: the next is merged into what this one leaves.
        """
        if realtime.has_pictures(message):
            message = await look(realtime.with_pictures_looked_at, message, self._offer)
        fields = realtime.merged(self._fields, message)
        self._messages += 1
        wanted = replace(realtime.parse(fields, self._offer), number=self._messages)
        self._warnings.arrived(wanted, realtime.left_behind(self._fields, message))
        self._fields = realtime.kept(fields)
        self._waiting.append(wanted)
        while len(self._waiting) > 1 and self._too_much_waits():
            self._waiting.popleft()
            self._dropped += 1
        self._arrived.set()
        if self._max_buffering == 1 and self._overtakable:
            assert self._making is not None
            self._overtakable = False  # a second time would interrupt its ending
            self._making.cancel()

    def refuse(self, error: GlimpseError, request_id: str | None) -> None:
        """Counts a message that is refused, and tells the client."""
        self._count_refusal(error.code)
        self._tell(error, request_id)

    def _tell(self, error: GlimpseError, request_id: str | None) -> None:
        """Tells the client of an error; the session goes on."""
        code = realtime.error_code(error)
        self._send(realtime.error_text(code, error.message, request_id))

    async def run(self) -> None:
        """Makes what is asked for, until cancelled."""
        stopped = False  # the job before was overtaken
        while True:
            await self._arrived.wait()
            wanted = self._waiting.popleft()
            if not self._waiting:
                self._arrived.clear()
            self._making = asyncio.create_task(self._make(wanted))
            self._overtakable = not stopped
            try:
                await asyncio.wait({self._making})
                stopped = self._making.cancelled()
                self._dropped += stopped
                if not stopped:
                    self._making.result()
            finally:
                self._making.cancel()
                await asyncio.wait({self._making})
                self._making = None
                self._overtakable = False

    async def frames(self) -> list[Frame]:
        """What is to be sent next, once there is something."""
        while not self._unsent:
            self._made.clear()
            await self._made.wait()
        unsent = self._unsent.popleft()
        if isinstance(unsent, str):
            return [unsent]
        if isinstance(unsent.event, Final):
            warnings = (*unsent.event.warnings, *self._codec.without_effect(unsent.wanted))
            unsent = replace(unsent, warnings=self._warnings.due(unsent.wanted, warnings))
        dropped, self._dropped = self._dropped, 0
        return self._codec.encode(unsent, dropped)

    def _too_much_waits(self) -> bool:
        requests = [wanted.request for wanted in self._waiting]
        pictures = [picture for each in requests for picture in (each.image, each.mask) if picture]
        # One that was kept from message to message is in memory once.
        sizes = {id(picture): len(picture.data) for picture in pictures}
        too_large = sum(sizes.values()) > self._max_waiting_bytes
        return too_large or len(self._waiting) > self._max_buffering

    async def _make(self, wanted: Wanted) -> None:
        request = wanted.request
        try:
            async with self._service.generation(
                request, Priority.REALTIME, self._memory, caller=self._caller
            ) as log:
                async for _, event in log.read():
                    if isinstance(event, Final | Failed):
                        self._overtakable = False  # there is nothing left to stop
                    if isinstance(event, Preview | Final):
                        self._send(Result(wanted, event))
                    elif isinstance(event, Failed):
                        self._tell(wanted.named(event.error), request.request_id)
        except GlimpseError as refused:
            self.refuse(wanted.named(refused), request.request_id)

    def _send(self, unsent: Result | str) -> None:
        if len(self._unsent) == self._max_unsent:
            self._unsent.popleft()
            self._dropped += 1
        self._unsent.append(unsent)
        self._made.set()
