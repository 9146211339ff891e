"""The image decoding and encoding stage: the full VAE."""

from typing import Any

from config.settings import AppSettings
from glimpse import logs
from glimpse.direct import ImageCoding
from glimpse.families.conditioning import EncodedImage
from glimpse.ports import Latents, Picture
from glimpse.torch_thread import TorchThread


class ImageCodec:
    def __init__(self, settings: AppSettings) -> None:
        logs.configure(settings.log_level)
        thread = TorchThread(settings.image_codec.threads)
        self._stage = thread.call(_load_alone, settings, thread)

    async def ping(self) -> dict[str, Any]:
        return await self._stage.ping()

    async def decode(
        self, request_id: str, latents: Latents, picture_format: str, quality: int
    ) -> Picture:
        return await self._stage.decode(request_id, latents, picture_format, quality)

    async def encode(
        self, request_id: str, picture: bytes, width: int, height: int, mask: bytes | None
    ) -> EncodedImage:
        return await self._stage.encode(request_id, picture, width, height, mask)


def _load_alone(settings: AppSettings, thread: TorchThread) -> ImageCoding:
    """On that thread, in a process that has no other model."""
    from glimpse.lean_imports import lean_imports

    with lean_imports():
        return load(settings, thread)


def load(settings: AppSettings, thread: TorchThread) -> ImageCoding:
    """On that thread."""
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import model_source
    from glimpse.decoders import FullVAE

    vae = FullVAE(model_source(settings.model), settings.image_codec.channels_last)
    vae.warm_up(settings.model.width, settings.model.height)
    return ImageCoding(thread, vae, settings.image_codec.max_batch_pixels)
