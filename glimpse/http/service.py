"""Admission, and the life of a generation that a door has asked for."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from glimpse import generation, logs
from glimpse.errors import DeadlineExceeded, GlimpseError, NotReady
from glimpse.event_log import EventLog
from glimpse.generation import Flow, SessionMemory
from glimpse.http.caller import NOBODY, Caller
from glimpse.http.places import Places
from glimpse.http.readers import look, read, read_pictures
from glimpse.input_pictures.masks import MaskOf, has_holes
from glimpse.ports import InputPixels, Priority, Stage
from glimpse.request import GenerationRequest, Offer, parse_request, picture_in
from glimpse.request_warnings import STREAM, Shown

logger = logging.getLogger(__name__)

RETRY_S = 1.0


class Service:
    """A realtime session takes one of `sessions`. It makes one picture at a time, which takes none
    of `pictures`."""

    def __init__(
        self,
        flow: Flow,
        offer: Offer,
        *,
        pictures: Places,
        sessions: Places,
        event_log_capacity: int,
        stage_wait_s: float,
    ) -> None:
        self._flow = flow
        self.offer = offer
        self._pictures = pictures
        self._sessions = sessions
        self._event_log_capacity = event_log_capacity
        self._stage_wait_s = stage_wait_s
        self.ready = False

    async def wait_for_stages(self) -> None:
        """Returns once every stage has answered, once; until then nothing is admitted."""
        if self.ready:
            return
        for name, stage in self._named_stages().items():
            while not await self._answers(name, stage):
                await asyncio.sleep(RETRY_S)
        self.ready = True
        logger.info("every stage is ready")

    async def keep_places(self) -> None:
        """Shares places with the other ingresses, for as long as this one runs."""
        await asyncio.gather(self._pictures.keep(), self._sessions.keep())

    async def health(self, timeout_s: float) -> dict[str, bool]:
        """Whether each stage answers within that time. One that has a replica and takes longer
        while there is work is busy, not gone; an open session is work."""
        named = self._named_stages()

        async def answers(name: str, stage: Stage) -> bool:
            present = False
            try:
                async with asyncio.timeout(timeout_s):
                    await stage.present()
                    present = True
                    return await self._answers(name, stage)
            except TimeoutError:
                return present and self._pictures.used + self._sessions.used > 0

        answered = await asyncio.gather(*(answers(*item) for item in named.items()))
        return dict(zip(named, answered, strict=True))

    async def _answers(self, name: str, stage: Stage) -> bool:
        try:
            await stage.ping()
        except GlimpseError as failure:
            logger.warning("%s does not answer: %s", name, failure.message)
            return False
        return True

    def _named_stages(self) -> dict[str, Stage]:
        stages = self._flow.stages
        return {
            "text_encoder": stages.text_encoder,
            "denoiser": stages.denoiser,
            "preview_decoder": stages.preview_decoder,
            "image_codec": stages.image_codec,
        }

    async def _present(self, request: GenerationRequest) -> None:
        """Waits for the stages that a picture needs, where one has no replica just now.

        Raises `NotReady` where one stays away for too long.
        """
        needed = ["text_encoder", "denoiser"]
        if request.full_quality:
            needed.append("image_codec")
        elif request.image is not None:
            needed.append("preview_decoder")
        named = self._named_stages()
        try:
            async with asyncio.timeout(self._stage_wait_s):
                for name in needed:
                    await named[name].present()
        except TimeoutError:
            raise NotReady(f"The {name} is being replaced; please try again shortly.") from None

    async def parse(
        self,
        fields: Mapping[str, Any],
        *,
        image: bytes | None = None,
        mask: bytes | None = None,
        mask_of: MaskOf = "white",
        shown: Shown = STREAM,
    ) -> GenerationRequest:
        """The request in a client's fields, and in encoded pictures of a door that has them as
        bytes. Pictures are looked at, not read. Raises `InvalidRequest`."""
        parse = partial(parse_request, fields, self.offer, mask_of=mask_of, shown=shown)
        given = (image, mask, fields.get("image_url"), fields.get("mask_url"))
        if all(each is None for each in given):
            return parse()

        def parse_with_pictures() -> GenerationRequest:
            return parse(
                image=None if image is None else picture_in("image", image, self.offer),
                mask=None if mask is None else picture_in("mask", mask, self.offer),
            )

        return await look(parse_with_pictures)

    async def has_holes(self, image: bytes, caller: Caller = NOBODY) -> bool:
        """Whether an encoded picture has fully transparent pixels. Reading it takes a place.

        Raises `InvalidRequest`, and `NotReady` or `Overloaded` where there is no place for it.
        """
        picture = await look(picture_in, "image", image, self.offer)
        if not picture.may_be_transparent:
            return False
        self._check_ready()
        release = await self._admit(1, caller)
        try:
            return await read(picture, has_holes)
        finally:
            release()

    @asynccontextmanager
    async def session(self, caller: Caller = NOBODY) -> AsyncIterator[None]:
        """Admits a realtime session, until the block is left. It may wait for its place.

        Raises `NotReady` or `Overloaded` where there is no place for it.
        """
        self._check_ready()
        await self._place(self._sessions, caller.owner)
        try:
            yield
        finally:
            self._sessions.release(caller.owner)

    @asynccontextmanager
    async def generation(
        self,
        request: GenerationRequest,
        priority: Priority,
        session: SessionMemory | None = None,
        *,
        caller: Caller = NOBODY,
    ) -> AsyncIterator[EventLog]:
        """Admits a generation, reads its pictures and runs it; leaving the block before its end
        cancels it. It may wait for its place. That of a session was admitted with it.

        Raises `NotReady` or `Overloaded` where there is no place for it, what
        `Caller.take_pictures` raises, and `InvalidRequest` for a picture that turns out to be
        damaged.
        """
        self._check_ready()
        release = await self._admit(0 if session is not None else request.num_images, caller)
        try:
            await self._present(request)
            request, pictures = await self._with_pictures(request, session or SessionMemory(None))
        except BaseException:
            release()
            raise
        log = EventLog(self._event_log_capacity)
        with logs.request_id(request.request_id):
            run = asyncio.create_task(
                generation.run(
                    request,
                    log,
                    self._flow,
                    priority=priority,
                    session=session,
                    owner=caller.owner,
                    pictures=pictures,
                )
            )
        run.add_done_callback(lambda _: release())
        try:
            yield log
        finally:
            run.cancel()
            await _end_of(run)

    async def _with_pictures(
        self, request: GenerationRequest, memory: SessionMemory
    ) -> tuple[GenerationRequest, InputPixels | None]:
        """The request with the warnings that reading its pictures brings, and what was read."""
        deadline_s = self._flow.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                return await read_pictures(request, memory, self.offer.size_multiple)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The input picture was not read within {deadline_s:g} seconds."
            ) from None

    async def _admit(self, pictures: int, caller: Caller) -> Callable[[], None]:
        """Takes places, until the returned function is called."""
        if not pictures:
            return lambda: None
        uncount = await caller.take_pictures(pictures)
        try:
            await self._place(self._pictures, caller.owner, pictures)
        except BaseException:
            uncount()
            raise

        def release() -> None:
            self._pictures.release(caller.owner, pictures)
            uncount()

        return release

    async def _place(self, places: Places, owner: str, count: int = 1) -> None:
        began = time.monotonic()
        await places.take(owner, count)
        self._flow.meter.placed(time.monotonic() - began)

    def _check_ready(self) -> None:
        if not self.ready:
            raise NotReady("The server is starting; please try again in a few seconds.")


async def _end_of(task: asyncio.Task[None]) -> None:
    """Waits for a task that was cancelled. Whoever waits may be cancelled meanwhile, and waits on:
    what comes after must not begin beside what is still ending."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
