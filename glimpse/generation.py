"""The flow of one generation through the ports: run(request, log)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from glimpse import logs
from glimpse.errors import DeadlineExceeded, GlimpseError
from glimpse.event_log import Accepted, Cancelled, EventLog, Failed, Final, Step, Timings
from glimpse.failover import Failover, Moves
from glimpse.meter import Meter
from glimpse.picture_job import Denoised, Encoded, PictureJob
from glimpse.ports import (
    DenoiseOptions,
    InputPixels,
    Job,
    Opaque,
    Picture,
    Priority,
    RoughPreviews,
    Stages,
    StepEvent,
)
from glimpse.previews import Estimate, NewestPreview
from glimpse.request import GenerationRequest
from glimpse.request_warnings import cut_texts

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flow:
    """Settings and ports that all generations of a process share. `rough` makes previews where the
    preview stage is late or gone; without it they are dropped.
    """

    stages: Stages
    deadline_s: float
    rough: RoughPreviews | None
    failover: Failover
    meter: Meter


async def run(
    request: GenerationRequest,
    log: EventLog,
    flow: Flow,
    *,
    priority: Priority,
    session: "SessionMemory | None" = None,
    pictures: InputPixels | None = None,
    owner: str = "",
) -> None:
    """Makes the pictures and tells the log. Ends it with exactly one of Final, Failed, Cancelled.
    `owner` is on whose behalf.

    `pictures` is what was read of the request's input picture. A cancelled task is a cancelled
    generation: the stages are told before this returns.
    """
    began = time.monotonic()
    log.append(Accepted())
    logger.info(
        "accepted: %dx%d, %d steps, %d picture(s), key %s",
        request.width,
        request.height,
        request.steps,
        request.num_images,
        logs.key(),
    )
    try:
        async with asyncio.timeout(flow.deadline_s) as deadline:
            generation = _Generation(request, log, flow, priority, session, pictures, owner)
            final = await generation.run()
    except asyncio.CancelledError:
        log.append(Cancelled())
        flow.meter.ended("cancelled", time.monotonic() - began)
        logger.info("cancelled")
        raise
    except Exception as failure:
        error = failure
        if isinstance(failure, TimeoutError) and deadline.expired():
            error = DeadlineExceeded(
                f"The picture was not ready within {flow.deadline_s:g} seconds."
            )
        if not isinstance(error, GlimpseError):
            logger.exception("unexpected error")
            error = GlimpseError()
        else:
            logger.warning("failed: %s: %s", error.code, error.message)
        log.append(Failed(error))
        flow.meter.ended("failed", time.monotonic() - began)
    else:
        log.append(final)
        flow.meter.ended("done", final.timings.total)
        logger.info("done in %.3f s, %d previews late", final.timings.total, final.previews_late)


@dataclass(slots=True)
class SessionMemory:
    """What a session has for its next generation, of which there is one at a time.

    `id`: its jobs go to one replica. `read`: the input picture and the mask of the last generation,
    as pixels and cells. `encoded`: what the encoders made of the texts and pictures of the last one
    that came out well. The same again are neither read nor encoded again.
    """

    id: str | None
    read: dict[Hashable, Any] = field(default_factory=dict)
    encoded: dict[Hashable, Opaque] = field(default_factory=dict)


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
        flow: Flow,
        priority: Priority,
        session: SessionMemory | None,
        pictures: InputPixels | None,
        owner: str,
    ) -> None:
        self._pictures = pictures
        self._request = request
        self._log = log
        self._flow = flow
        self._priority = priority
        self._owner = owner
        self._session = session or SessionMemory(None)
        self._encoded: dict[Hashable, Opaque] = {}
        self._began = time.monotonic()
        self._previews = NewestPreview(
            flow.stages.preview_decoder, flow.rough, request, log, flow.meter
        )

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
            (*request.warnings, *cut_texts(encoded.text)),
        )

    async def _encode(self) -> Encoded:
        request, stages = self._request, self._flow.stages
        began = time.monotonic()
        texts = request.prompt, request.negative_prompt
        text = self._remembered(
            "text_encode",
            ("text_encoder", *texts),
            lambda: stages.text_encoder.encode(request.request_id, *texts),
        )
        pictures = self._pictures
        if pictures is None:
            return Encoded(await text, None, time.monotonic() - began)
        # Their readings of the same picture differ: what one made is not taken for the other's.
        encode, name = stages.image_codec.encode, "image_codec"
        if not request.full_quality:
            encode, name = stages.preview_decoder.encode, "preview_decoder"
        which = request.image, request.mask, request.mask_of, request.width, request.height
        async with asyncio.TaskGroup() as group:
            image = group.create_task(
                self._remembered(
                    "image_encode",
                    (name, *which),
                    lambda: encode(request.request_id, pictures.pixels, pictures.cells),
                )
            )
            encoded = await text
            text_s = time.monotonic() - began
        return Encoded(encoded, image.result(), text_s)

    async def _remembered(
        self, stage: str, key: Hashable, encode: Callable[[], Awaitable[Opaque]]
    ) -> Opaque:
        """A remembered result is used once: should it be lost, it is made again."""
        made = self._session.encoded.pop(key, None)
        if made is None:
            made = await self._insisting(stage, encode)
        self._encoded[key] = made
        return made

    async def _insisting(self, stage: str, call: Callable[[], Awaitable[T]]) -> T:
        """Calls a stage; where its replica is lost meanwhile, another one."""
        moves = Moves(stage, self._flow.failover, self._flow.meter)
        while True:
            async with moves:
                return await call()

    async def _picture(self, index: int, encoded: Encoded) -> _Result:
        began = time.monotonic()
        denoised = await self._job(index).run(encoded)
        # The denoiser cannot tell how long its job was on the way to it, or waited for it. Steps
        # that had to be made again count here, too.
        decode_s = 0.0 if denoised.last.picture is None else denoised.last.picture.decode_s
        queue_s = max(0.0, time.monotonic() - began - denoised.denoise_s - decode_s)
        self._flow.meter.queued(queue_s)
        return _Result(await self._decoded(denoised), queue_s, denoised.denoise_s)

    async def _decoded(self, denoised: Denoised) -> Picture:
        if denoised.last.picture is not None:
            return denoised.last.picture
        latents = denoised.last.latents
        assert latents is not None, "the last step has the one or the other"
        request, codec = self._request, self._flow.stages.image_codec
        return await self._insisting(
            "image_decode",
            lambda: codec.decode(
                request.request_id, latents, request.output_format, request.output_quality
            ),
        )

    def _job(self, index: int) -> PictureJob:
        request, flow = self._request, self._flow
        shown = index == 0  # previews and progress are of the first picture
        previews = request.preview_steps if shown else frozenset()
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
        checkpoints = flow.failover.checkpoint_steps(request.steps, previews)
        options = DenoiseOptions(
            priority=self._priority,
            deadline_s=None,  # what is left of it when the job is sent
            emit_at=request.progress_steps if shown else frozenset(),
            emit_denoised_at=previews,
            emit_state_at=checkpoints,
            emit_state_every_s=flow.failover.checkpoint_every_s if checkpoints else None,
            session=self._session.id,
            owner=self._owner,
            picture=None if request.full_quality else request.final,
        )
        return PictureJob(
            job,
            options,
            flow.stages.denoiser,
            flow.failover,
            flow.meter,
            deadline=self._began + flow.deadline_s,
            encode=self._encode,
            told=self._told if shown else lambda event: None,
        )

    def _told(self, event: StepEvent) -> None:
        if event.step in self._request.progress_steps:
            self._log.append(Step(event.step, event.steps))
        if event.denoised is not None:
            self._previews.offer(Estimate(event.step, event.steps, event.denoised))

    def _timings(self, text_s: float, results: list[_Result]) -> Timings:
        queue = min(r.queue_s for r in results)
        return Timings(
            queue=queue,
            text_encode=text_s,
            denoise=max(r.queue_s + r.denoise_s for r in results) - queue,
            decode=max(r.picture.decode_s for r in results),
            total=time.monotonic() - self._began,
        )


def _first(failures: BaseExceptionGroup[Exception]) -> Exception:
    """The first failure of a task group: the others follow from it or happened beside it."""
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    assert isinstance(failure, Exception)
    return failure
