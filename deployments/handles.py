"""The ports over Ray handles. Every call is cancelled in `finally`: Serve itself passes on nothing
but the end of an HTTP request."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from cachetools import LRUCache
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.failures import translated
from deployments.references import KEPT_SESSIONS, Inputs, Reference, reference_to
from glimpse.errors import AccessUnavailable, GlimpseError, RateLimited
from glimpse.key_limits import Lease
from glimpse.keys import Limits
from glimpse.ports import DenoiseOptions, Job, Latents, Picture, Stages, StepEvent
from glimpse.request import PreviewSpec

# Of a picture whose PNG, of noise, is surely below gRPC's limit of 4 MiB.
MOST_PIXELS_BY_VALUE = 2**20


class _Handle:
    def __init__(self, handle: DeploymentHandle, stage: str) -> None:
        # Said outright, because Ray's environment can turn the default around, and a reference
        # inside a message by value is never freed.
        self._by_reference = handle.options(_by_reference=True)
        # Small things are faster by value, from replica to replica. gRPC's limit is 4 MiB.
        self._by_value = handle.options(_by_reference=False)
        self._stage = stage

    async def ping(self) -> dict[str, Any]:
        counters: dict[str, Any] = await self._result(self._by_value.ping.remote())
        return counters

    async def _result(self, response: DeploymentResponse[Any]) -> Any:
        try:
            with translated(self._stage):
                return await response
        finally:
            response.cancel()

    async def _reference(self, response: DeploymentResponse[Any], stage: str) -> Reference:
        try:
            with translated(stage):
                return await reference_to(response)
        finally:
            response.cancel()


class RayTextEncoder(_Handle):
    async def encode(self, request_id: str, prompt: str, negative_prompt: str | None) -> Reference:
        return await self._reference(
            self._by_reference.encode.remote(request_id, prompt, negative_prompt), self._stage
        )


class RayDenoiser(_Handle):
    def __init__(self, handle: DeploymentHandle, stage: str) -> None:
        super().__init__(handle, stage)
        self._sent: LRUCache[str, Inputs] = LRUCache(KEPT_SESSIONS)  # by session, of the last job

    async def denoise(
        self,
        job: Job,
        conditioning: Reference,
        image: Reference | None,
        options: DenoiseOptions,
    ) -> AsyncGenerator[StepEvent, None]:
        inputs, handle = Inputs.of(conditioning, image), self._by_reference
        kept, session = inputs.kept(), options.session
        if session is not None:
            small = job.width * job.height <= MOST_PIXELS_BY_VALUE
            if small and self._sent.get(session) == kept:
                inputs, handle = kept, self._by_value
            handle = handle.options(session_id=session)
        # One answer takes half the time of a stream of one.
        told = self._stream if options.told else self._last
        async with aclosing(told(handle, job, inputs, options)) as events:
            async for event in events:
                yield event
        if session is not None:
            self._sent[session] = kept

    async def _last(
        self, handle: DeploymentHandle, *arguments: Any
    ) -> AsyncGenerator[StepEvent, None]:
        yield await self._result(handle.denoise_to_the_end.remote(*arguments))

    async def _stream(
        self, handle: DeploymentHandle, *arguments: Any
    ) -> AsyncGenerator[StepEvent, None]:
        stream = handle.options(stream=True).denoise.remote(*arguments)
        try:
            with translated(self._stage):
                async for event in stream:
                    yield event
        finally:
            stream.cancel()


class _ImageEncoder(_Handle):
    async def encode(
        self, request_id: str, picture: bytes, width: int, height: int, mask: bytes | None
    ) -> Reference:
        return await self._reference(
            self._by_reference.encode.remote(request_id, picture, width, height, mask),
            "image_encode",
        )


class RayPreviewDecoder(_ImageEncoder):
    async def decode(self, request_id: str, denoised: Latents, spec: PreviewSpec) -> Picture:
        picture: Picture = await self._result(
            self._by_value.decode.remote(request_id, denoised, spec)
        )
        return picture


class RayImageCodec(_ImageEncoder):
    async def decode(
        self, request_id: str, latents: Latents, picture_format: str, quality: int
    ) -> Picture:
        # By reference: a large PNG can pass gRPC's limit.
        picture: Picture = await self._result(
            self._by_reference.decode.remote(request_id, latents, picture_format, quality)
        )
        return picture


class RayKeyLimits(_Handle):
    async def enter(self, lease: Lease, limits: Limits) -> RateLimited | None:
        refusal: RateLimited | None = await self._counted(
            self._by_value.enter.remote(lease, limits)
        )
        return refusal

    async def settle(self, held: Sequence[Lease], released: Sequence[Lease]) -> None:
        await self._counted(self._by_value.settle.remote(held, released))

    async def _counted(self, response: DeploymentResponse[Any]) -> Any:
        try:
            return await self._result(response)
        except GlimpseError:
            message = "Limits of keys cannot be checked; please try again."
            raise AccessUnavailable(message) from None


def stages(
    text_encoder: DeploymentHandle,
    denoiser: DeploymentHandle,
    preview_decoder: DeploymentHandle,
    image_codec: DeploymentHandle,
) -> Stages:
    return Stages(
        text_encoder=RayTextEncoder(text_encoder, "text_encode"),
        denoiser=RayDenoiser(denoiser, "denoise"),
        preview_decoder=RayPreviewDecoder(preview_decoder, "preview_decode"),
        image_codec=RayImageCodec(image_codec, "image_decode"),
    )
