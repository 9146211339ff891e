"""The flow of one generation through the ports: run(request, log)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from glimpse.errors import DeadlineExceeded, GlimpseError, Overloaded, StageFailed, StageLost
from glimpse.event_log import Accepted, Cancelled, EventLog, Failed, Final, Preview, Step, Timings
from glimpse.ports import (
    DenoiseOptions,
    Job,
    Latents,
    Opaque,
    Picture,
    PreviewDecoder,
    Priority,
    RoughPreviews,
    Stages,
    StepEvent,
)
from glimpse.request import GenerationRequest

logger = logging.getLogger(__name__)

ENCODING = ("text_encode", "image_encode")


async def run(
    request: GenerationRequest,
    log: EventLog,
    stages: Stages,
    *,
    priority: Priority,
    deadline_s: float,
    rough: RoughPreviews | None,
    session: "SessionMemory | None" = None,
) -> None:
    """Makes the pictures and tells the log. Ends it with exactly one of Final, Failed, Cancelled.

    Where the preview stage is late or gone `rough` makes previews; without it they are dropped.
    A cancelled task is a cancelled generation: the stages are told before this returns.
    """
    log.append(Accepted())
    logger.info(
        "accepted: %dx%d, %d steps, %d picture(s)",
        request.width,
        request.height,
        request.steps,
        request.num_images,
    )
    try:
        async with asyncio.timeout(deadline_s) as deadline:
            final = await _Generation(
                request, log, stages, priority, deadline_s, rough, session
            ).run()
    except asyncio.CancelledError:
        log.append(Cancelled())
        logger.info("cancelled")
        raise
    except Exception as failure:
        error = failure
        if isinstance(failure, TimeoutError) and deadline.expired():
            error = DeadlineExceeded(f"The picture was not ready within {deadline_s:g} seconds.")
        if not isinstance(error, GlimpseError):
            logger.exception("failed in a way nobody foresaw")
            error = GlimpseError()
        else:
            logger.warning("failed: %s: %s", error.code, error.message)
        log.append(Failed(error))
    else:
        log.append(final)
        logger.info("done in %.3f s, %d previews late", final.timings.total, final.previews_late)


@dataclass(slots=True)
class SessionMemory:
    """What a session has for its next generation, of which there is one at a time.

    `id`: its jobs go to one replica. `encoded`: what the encoders made of the texts and pictures of
    the last generation that came out well; the same again are not encoded again.
    """

    id: str | None
    encoded: dict[Hashable, Opaque] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Encoded:
    conditioning: Opaque
    image: Opaque | None
    text_s: float


@dataclass(frozen=True, slots=True)
class _Result:
    picture: Picture
    queue_s: float
    denoise_s: float


class _Generation:
    def __init__(
        self,
        request: GenerationRequest,
        log: EventLog,
        stages: Stages,
        priority: Priority,
        deadline_s: float,
        rough: RoughPreviews | None,
        session: SessionMemory | None,
    ) -> None:
        self._request = request
        self._log = log
        self._stages = stages
        self._priority = priority
        self._session = session or SessionMemory(None)
        self._encoded: dict[Hashable, Opaque] = {}
        self._began = time.monotonic()
        self._deadline_s = deadline_s
        self._previews = _NewestPreview(stages.preview_decoder, rough, request, log)

    async def run(self) -> Final:
        request = self._request
        try:
            async with asyncio.TaskGroup() as group:
                previews = group.create_task(self._previews.run())
                encoded = await self._encode()
                pictures = [
                    group.create_task(self._picture(index, encoded))
                    for index in range(request.num_images)
                ]
                results = [await picture for picture in pictures]
                previews.cancel()
        except* Exception as failures:
            raise _first(failures) from None
        self._session.encoded = self._encoded
        return Final(
            request.steps,
            tuple(result.picture for result in results),
            self._timings(encoded.text_s, results),
            self._previews.late,
        )

    async def _encode(self) -> _Encoded:
        request, stages = self._request, self._stages
        began = time.monotonic()
        text = self._remembered(stages.text_encoder.encode, request.prompt, request.negative_prompt)
        if request.image is None:
            return _Encoded(await text, None, time.monotonic() - began)
        codec = stages.image_codec if request.full_quality else stages.preview_decoder
        async with asyncio.TaskGroup() as group:
            image = group.create_task(
                self._remembered(
                    codec.encode, request.image, request.width, request.height, request.mask
                )
            )
            conditioning = await text
            text_s = time.monotonic() - began
        return _Encoded(conditioning, image.result(), text_s)

    async def _remembered(self, encode: Callable[..., Awaitable[Opaque]], *what: Any) -> Opaque:
        """What is remembered is used once: should it be lost, it is made again."""
        key = (encode.__qualname__, what)
        made = self._session.encoded.pop(key, None)
        if made is None:
            made = await encode(self._request.request_id, *what)
        self._encoded[key] = made
        return made

    async def _picture(self, index: int, encoded: _Encoded) -> _Result:
        began = time.monotonic()
        try:
            last = await self._denoise(index, encoded)
        except StageLost as lost:
            if lost.stage not in ENCODING:
                raise
            logger.warning("%s; encoding again", lost.message)
            # What was encoded went with its encoder, before the first step: it is made again.
            last = await self._denoise(index, await self._encode())
        if last is None or last.denoise_s is None:
            raise StageFailed("denoise", "The denoiser stopped before the last step; try again.")
        # The denoiser cannot tell how long its job was on the way to it, or waited for it.
        decode_s = 0.0 if last.picture is None else last.picture.decode_s
        queue_s = max(0.0, time.monotonic() - began - last.denoise_s - decode_s)
        return _Result(await self._decoded(last), queue_s, last.denoise_s)

    async def _decoded(self, last: StepEvent) -> Picture:
        if last.picture is not None:
            return last.picture
        assert last.latents is not None, "the last step has the one or the other"
        request = self._request
        return await self._stages.image_codec.decode(
            request.request_id, last.latents, request.output_format, request.output_quality
        )

    async def _denoise(self, index: int, encoded: _Encoded) -> StepEvent | None:
        """Runs the job of one picture, and gives the last that was told of it."""
        request = self._request
        shown = index == 0  # previews and progress are of the first picture
        job = Job(
            id=f"{request.request_id}/{index}",
            width=request.width,
            height=request.height,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            seed=request.seeds[index],
            scheduler=request.scheduler,
            strength=request.strength,
        )
        options = DenoiseOptions(
            priority=self._priority,
            deadline_s=self._deadline_s - (time.monotonic() - self._began),
            emit_at=request.progress_steps if shown else frozenset(),
            emit_denoised_at=request.preview_steps if shown else frozenset(),
            session=self._session.id,
            picture=None if request.full_quality else request.final,
        )
        event = None
        steps = self._stages.denoiser.denoise(job, encoded.conditioning, encoded.image, options)
        async with aclosing(steps):
            async for event in steps:
                if shown and event.step in request.progress_steps:
                    self._log.append(Step(event.step, event.steps))
                if event.denoised is not None:
                    self._previews.offer(_Estimate(event.step, event.steps, event.denoised))
        return event

    def _timings(self, text_s: float, results: list[_Result]) -> Timings:
        queue = min(r.queue_s for r in results)
        return Timings(
            queue=queue,
            text_encode=text_s,
            denoise=max(r.queue_s + r.denoise_s for r in results) - queue,
            decode=max(r.picture.decode_s for r in results),
            total=time.monotonic() - self._began,
        )


@dataclass(frozen=True, slots=True)
class _Estimate:
    step: int
    steps: int
    denoised: Latents


class _NewestPreview:
    """Decodes estimates beside denoising, in order. While one is decoded only the newest of those
    that arrive is kept, so that a late preview is dropped and never queued.
    """

    def __init__(
        self,
        decoder: PreviewDecoder,
        rough: RoughPreviews | None,
        request: GenerationRequest,
        log: EventLog,
    ) -> None:
        self._decoder = decoder
        self._rough = rough
        self._request = request
        self._log = log
        self._newest: asyncio.Queue[_Estimate] = asyncio.Queue(maxsize=1)
        self.late = 0

    def offer(self, estimate: _Estimate) -> None:
        if self._newest.full():
            self._newest.get_nowait()
            self.late += 1
        self._newest.put_nowait(estimate)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            estimate = await self._newest.get()
            picture = await self._decode(estimate)
            if picture is not None:
                self._log.append(Preview(estimate.step, estimate.steps, picture))
            elif self._rough is None:
                self.late += 1
            else:
                await self._show_roughly(estimate, self._rough)

    async def _decode(self, estimate: _Estimate) -> Picture | None:
        """None where the stage is full or gone, or late and there is something to show instead: a
        picture is not given up for a preview.
        """
        limit_s = None if self._rough is None else self._rough.limit_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await self._decoder.decode(
                    self._request.request_id, estimate.denoised, self._request.preview
                )
        except (Overloaded, StageFailed) as failure:
            logger.warning("a preview is lost: %s", failure.message)
        except TimeoutError:
            if not limit.expired():
                raise
            logger.warning("a preview is late, and no longer waited for")
        return None

    async def _show_roughly(self, estimate: _Estimate, rough: RoughPreviews) -> None:
        if self._newest.full():
            self.late += 1
            estimate = self._newest.get_nowait()
        picture = await asyncio.to_thread(rough.decode, estimate.denoised, self._request.preview)
        self._log.append(Preview(estimate.step, estimate.steps, picture, rough=True))


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    """The first failure of a task group: the others follow from it or happened beside it."""
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    assert isinstance(failure, Exception)
    return failure
