"""The stages themselves: the ports, over models on a torch thread of this process.

The fused graph calls them; a deployment of the split graph holds one. Finished pictures are encoded
on other threads, but for small ones: Pillow lets go of the interpreter's lock, and never calls
torch.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from glimpse.batches import Batches
from glimpse.errors import StageStalled
from glimpse.families import LATENT_FACTOR
from glimpse.families.conditioning import Conditioning, EncodedImage, TextEmbedding
from glimpse.input_pictures.masks import Cells
from glimpse.input_pictures.reading import Pixels
from glimpse.pictures import encode_final, encode_preview
from glimpse.ports import DenoiseOptions, EncodedText, Job, Latents, Picture, StepEvent
from glimpse.request import PreviewSpec
from glimpse.stage import failing_as
from glimpse.torch_thread import TorchThread

if TYPE_CHECKING:
    from PIL.Image import Image

    from glimpse.decoders import FullVAE, TinyVAE
    from glimpse.engine.loop import Engine
    from glimpse.families.sdxl import SDXLTextEncoder

# Pixels of a JPEG that is made, in 0.15 ms, before another thread would have begun.
JPEG_AT_ONCE = 2**16


class _Here:
    """A stage of this process is always present."""

    async def present(self) -> None:
        return


class TextEncoding(_Here):
    """A `TextEncoder` with a cache by text. `embed` is the encoder for one text; what is asked of
    it at the same time is for whoever made it to put together."""

    def __init__(
        self,
        encoder: "SDXLTextEncoder",
        embed: Callable[[str], Awaitable[TextEmbedding]],
        cache_size: int,
    ) -> None:
        self._encoder = encoder
        self._embed = embed
        self._cache: LRUCache[str, TextEmbedding] = LRUCache(cache_size)

    async def ping(self) -> dict[str, Any]:
        return {"texts": self._encoder.texts, "calls": self._encoder.calls}

    async def encode(
        self, request_id: str, prompt: str, negative_prompt: str | None
    ) -> EncodedText:
        texts = [prompt] if negative_prompt is None else [prompt, negative_prompt]
        with failing_as(request_id, "text_encode"):
            prompt_, *negative = await asyncio.gather(*map(self._embedding, texts))
            conditioning = Conditioning(prompt_, negative[0] if negative else None)
            return EncodedText(conditioning, *conditioning.cut)

    async def _embedding(self, text: str) -> TextEmbedding:
        embedding = self._cache.get(text)
        if embedding is None:
            embedding = self._cache[text] = await self._embed(text)
        return embedding


class Denoising(_Here):
    """A `Denoiser`, with a TinyVAE beside it for the pictures that it makes itself."""

    def __init__(self, engine: "Engine", decoder: "PreviewDecoding") -> None:
        self._engine = engine
        self._decoder = decoder

    async def ping(self) -> dict[str, Any]:
        return dict(self._engine.counters)

    async def denoise(
        self,
        job: Job,
        conditioning: Conditioning,
        image: EncodedImage | None,
        options: DenoiseOptions,
    ) -> AsyncGenerator[StepEvent, None]:
        with failing_as(job.id, "denoise"):
            async with aclosing(self._engine.denoise(job, conditioning, image, options)) as steps:
                async for event in steps:
                    if event.latents is not None and options.picture is not None:
                        picture = await self._picture(job, event.latents, options.picture)
                        event = replace(event, latents=None, picture=picture)
                    yield event

    async def _picture(self, job: Job, latents: Latents, spec: PreviewSpec) -> Picture:
        try:
            return await self._decoder.decode(job.id, latents, spec)
        except StageStalled:
            raise StageStalled("denoise") from None  # it is this stage's thread that hangs


class PreviewDecoding(_Here):
    """A `PreviewDecoder`. Estimates of one size that wait are decoded in one call, up to so many
    pixels of pictures."""

    def __init__(self, thread: TorchThread, vae: "TinyVAE", max_batch_pixels: int) -> None:
        self._decodes = _decodes(thread, vae.decode, max_batch_pixels)
        self._encodes = _encodes(thread, vae)

    async def ping(self) -> dict[str, Any]:
        return {}

    async def decode(self, request_id: str, denoised: Latents, spec: PreviewSpec) -> Picture:
        with failing_as(request_id, "preview_decode"):
            decoded = await self._decodes.run(denoised)
            return await _encoded(decoded, spec.format, encode_preview, spec)

    async def encode(self, request_id: str, picture: Pixels, mask: Cells | None) -> EncodedImage:
        with failing_as(request_id, "image_encode"):
            return await self._encodes.run((picture, mask))


class ImageCoding(_Here):
    """An `ImageCodec`. Latents of one size that wait are decoded in one call, up to so many pixels
    of pictures; input pictures are encoded one by one."""

    def __init__(self, thread: TorchThread, vae: "FullVAE", max_batch_pixels: int) -> None:
        self._decodes = _decodes(thread, vae.decode, max_batch_pixels)
        self._encodes = _encodes(thread, vae)

    async def ping(self) -> dict[str, Any]:
        return {}

    async def decode(
        self, request_id: str, latents: Latents, picture_format: str, quality: int
    ) -> Picture:
        with failing_as(request_id, "image_decode"):
            decoded = await self._decodes.run(latents)
            return await _encoded(decoded, picture_format, encode_final, picture_format, quality)

    async def encode(self, request_id: str, picture: Pixels, mask: Cells | None) -> EncodedImage:
        with failing_as(request_id, "image_encode"):
            return await self._encodes.run((picture, mask))


@dataclass(frozen=True, slots=True)
class _Decoded:
    """An image, and the seconds of the call that decoded it."""

    image: "Image"
    seconds: float


async def _encoded(
    decoded: _Decoded, picture_format: str, encode: Callable[..., Picture], *how: Any
) -> Picture:
    def timed() -> Picture:
        began = time.perf_counter()
        picture = encode(decoded.image, *how)
        return replace(picture, decode_s=decoded.seconds + time.perf_counter() - began)

    width, height = decoded.image.size
    if picture_format == "jpeg" and width * height <= JPEG_AT_ONCE:
        return timed()
    return await asyncio.to_thread(timed)


def _decodes(
    thread: TorchThread, decode: Callable[[list[Latents]], list["Image"]], max_batch_pixels: int
) -> Batches[Latents, _Decoded]:
    def most(latents: Latents) -> int:
        _, height, width = latents.shape
        return max_batch_pixels // int(height * width * LATENT_FACTOR**2)

    def timed(latents: list[Latents]) -> list[_Decoded]:
        began = time.perf_counter()
        images = decode(latents)
        seconds = time.perf_counter() - began
        return [_Decoded(image, seconds) for image in images]

    return Batches(thread, timed, most=most, kind=lambda latents: latents.shape)


def _encodes(
    thread: TorchThread, vae: "TinyVAE | FullVAE"
) -> Batches[tuple[Pixels, Cells | None], EncodedImage]:
    return Batches(
        thread, lambda several: [vae.posterior(*images) for images in several], most=lambda _: 1
    )
