"""The preview decoding stage: TinyVAE."""

from typing import Any

from config.settings import AppSettings
from glimpse import logs
from glimpse.direct import PreviewDecoding
from glimpse.families.conditioning import EncodedImage
from glimpse.ports import Latents, Picture
from glimpse.request import PreviewSpec
from glimpse.torch_thread import TorchThread


class PreviewDecoder:
    def __init__(self, settings: AppSettings) -> None:
        logs.configure(settings.log_level)
        thread = TorchThread(settings.preview_decoder.threads)
        self._stage = thread.call(_load_alone, settings, thread)

    async def ping(self) -> dict[str, Any]:
        return await self._stage.ping()

    async def decode(self, request_id: str, denoised: Latents, spec: PreviewSpec) -> Picture:
        return await self._stage.decode(request_id, denoised, spec)

    async def encode(
        self, request_id: str, picture: bytes, width: int, height: int, mask: bytes | None
    ) -> EncodedImage:
        return await self._stage.encode(request_id, picture, width, height, mask)


def _load_alone(settings: AppSettings, thread: TorchThread) -> PreviewDecoding:
    """On that thread, in a process that has no other model."""
    from glimpse.lean_imports import lean_imports

    with lean_imports():
        return load(settings, thread)


def load(settings: AppSettings, thread: TorchThread) -> PreviewDecoding:
    """On that thread."""
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import tiny_vae_source
    from glimpse.decoders import TinyVAE

    vae = TinyVAE(tiny_vae_source(settings.model), settings.preview_decoder.channels_last)
    vae.warm_up(settings.model.width, settings.model.height)
    return PreviewDecoding(thread, vae, settings.preview_decoder.max_batch_pixels)
