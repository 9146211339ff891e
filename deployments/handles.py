"""The ports over Ray handles. Every call is cancelled in `finally`: Serve itself passes on nothing
but the end of an HTTP request."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.failures import translated
from deployments.references import KEPT_SESSIONS, Inputs, NotKept, Reference, reference_to
from deployments.replicas import replicas_of
from glimpse.errors import AccessUnavailable, GlimpseError, RateLimited
from glimpse.input_pictures.masks import Cells
from glimpse.input_pictures.reading import Pixels
from glimpse.key_limits import Lease
from glimpse.keys import Limits
from glimpse.meter import Meter
from glimpse.ports import (
    DenoiseOptions,
    EncodedText,
    Job,
    Latents,
    Picture,
    Stages,
    StepEvent,
)
from glimpse.request import PreviewSpec

# Of a picture whose PNG, of noise, is surely below gRPC's limit of 4 MiB.
MOST_PIXELS_BY_VALUE = 2**20


@dataclass(frozen=True, slots=True)
class Watch:
    """After how long a replica that does not answer counts as stalled, and who is told."""

    stall_s: float
    meter: Meter


class _Handle:
    def __init__(self, handle: DeploymentHandle, stage: str) -> None:
        # Said outright, because Ray's environment can turn the default around, and a reference
        # inside a message by value is never freed.
        self._by_reference = handle.options(_by_reference=True)
        # Small things are faster by value, from replica to replica. gRPC's limit is 4 MiB.
        self._by_value = handle.options(_by_reference=False)
        self._stage = stage

    async def _result(self, method: Any, *arguments: Any) -> Any:
        response = method.remote(*arguments)
        try:
            with translated(self._stage):
                return await response
        finally:
            response.cancel()


class _Stage(_Handle):
    """No call goes to a replica that stands still. A call whose replica comes to a standstill is
    given up."""

    def __init__(self, handle: DeploymentHandle, stage: str, watch: Watch) -> None:
        super().__init__(handle, stage)
        self._replicas = replicas_of(handle.app_name, handle.deployment_name)
        self._replicas.stall_s = watch.stall_s
        self._replicas.on_stall = lambda: watch.meter.stalled(stage)

    async def ping(self) -> dict[str, Any]:
        counters: dict[str, Any] = await self._result(self._by_value.ping)
        return counters

    async def present(self) -> None:
        await self._replicas.until_present()

    async def _result(self, method: Any, *arguments: Any, stage: str | None = None) -> Any:
        async def value(response: DeploymentResponse[Any]) -> Any:
            return await response

        return await self._answered(value, method, *arguments, stage=stage)

    async def _referenced(
        self, method: Any, *arguments: Any, stage: str | None = None
    ) -> tuple[Reference, Any]:
        answer: tuple[Reference, Any] = await self._answered(
            reference_to, method, *arguments, stage=stage
        )
        return answer

    async def _answered(
        self,
        take: Callable[[DeploymentResponse[Any]], Awaitable[Any]],
        method: Any,
        *arguments: Any,
        stage: str | None,
    ) -> Any:
        stage = stage or self._stage
        await self._replicas.until_present()
        with self._replicas.call(stage) as call, translated(stage):
            response = call.send(method, *arguments)
            try:
                return await call.answer(take(response))
            finally:
                response.cancel()


class RayTextEncoder(_Stage):
    async def encode(
        self, request_id: str, prompt: str, negative_prompt: str | None
    ) -> EncodedText:
        reference, conditioning = await self._referenced(
            self._by_reference.encode, request_id, prompt, negative_prompt
        )
        return EncodedText(reference, *conditioning.cut)


class RayDenoiser(_Stage):
    def __init__(self, handle: DeploymentHandle, stage: str, watch: Watch) -> None:
        super().__init__(handle, stage, watch)
        self._sent: LRUCache[str, Inputs] = LRUCache(KEPT_SESSIONS)  # by session, of the last job

    async def denoise(
        self,
        job: Job,
        conditioning: Reference,
        image: Reference | None,
        options: DenoiseOptions,
    ) -> AsyncGenerator[StepEvent, None]:
        inputs, session = Inputs.of(conditioning, image), options.session
        small = job.width * job.height <= MOST_PIXELS_BY_VALUE
        kept = small and session is not None and self._sent.get(session) == inputs.kept()
        try:
            async with aclosing(self._run(job, inputs, options, kept=kept)) as events:
                async for event in events:
                    yield event
        except NotKept:  # the session is with another replica since: nothing has been done yet
            async with aclosing(self._run(job, inputs, options, kept=False)) as events:
                async for event in events:
                    yield event
        if session is not None:
            self._sent[session] = inputs.kept()

    async def _run(
        self, job: Job, inputs: Inputs, options: DenoiseOptions, *, kept: bool
    ) -> AsyncGenerator[StepEvent, None]:
        """With `kept` inputs that the session's replica has from the last job."""
        handle = self._by_value if kept else self._by_reference
        if options.session is not None:
            handle = handle.options(session_id=options.session)
        arguments = job, inputs.kept() if kept else inputs, options
        # One answer takes half the time of a stream of one.
        if options.one_answer:
            yield await self._result(handle.denoise_to_the_end, *arguments)
            return
        await self._replicas.until_present()
        with self._replicas.call(self._stage) as call, translated(self._stage):
            stream = call.send(handle.options(stream=True).denoise, *arguments)
            try:
                while (event := await call.answer(anext(stream, None))) is not None:
                    yield event
            finally:
                stream.cancel()


class _ImageEncoder(_Stage):
    async def encode(self, request_id: str, picture: Pixels, mask: Cells | None) -> Reference:
        reference, _ = await self._referenced(
            self._by_reference.encode, request_id, picture, mask, stage="image_encode"
        )
        return reference


class RayPreviewDecoder(_ImageEncoder):
    async def decode(self, request_id: str, denoised: Latents, spec: PreviewSpec) -> Picture:
        picture: Picture = await self._result(self._by_value.decode, request_id, denoised, spec)
        return picture


class RayImageCodec(_ImageEncoder):
    async def decode(
        self, request_id: str, latents: Latents, picture_format: str, quality: int
    ) -> Picture:
        # By reference: a large PNG can pass gRPC's limit.
        picture: Picture = await self._result(
            self._by_reference.decode, request_id, latents, picture_format, quality
        )
        return picture


class RayKeyLimits(_Handle):
    async def enter(self, lease: Lease, limits: Limits) -> RateLimited | None:
        refusal: RateLimited | None = await self._counted(self._by_value.enter, lease, limits)
        return refusal

    async def settle(self, held: Sequence[Lease], released: Sequence[Lease]) -> None:
        await self._counted(self._by_value.settle, held, released)

    async def _counted(self, method: Any, *arguments: Any) -> Any:
        try:
            return await self._result(method, *arguments)
        except GlimpseError:
            message = "Limits of keys cannot be checked; please try again."
            raise AccessUnavailable(message) from None


def stages(
    text_encoder: DeploymentHandle,
    denoiser: DeploymentHandle,
    preview_decoder: DeploymentHandle,
    image_codec: DeploymentHandle,
    watch: Watch,
) -> Stages:
    return Stages(
        text_encoder=RayTextEncoder(text_encoder, "text_encode", watch),
        denoiser=RayDenoiser(denoiser, "denoise", watch),
        preview_decoder=RayPreviewDecoder(preview_decoder, "preview_decode", watch),
        image_codec=RayImageCodec(image_codec, "image_decode", watch),
    )
