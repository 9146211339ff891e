"""The preview decoding stage: TinyVAE."""

from typing import TYPE_CHECKING, Any

from config.settings import AppSettings
from glimpse import logs
from glimpse.ports import Latents, Picture
from glimpse.request import PreviewSpec
from glimpse.stage import failing_as
from glimpse.torch_thread import TorchThread

if TYPE_CHECKING:
    from glimpse.decoders import TinyVAE


class PreviewDecoder:
    def __init__(self, settings: AppSettings) -> None:
        logs.configure(settings.log_level)
        self._thread = TorchThread(settings.preview_decoder.threads)
        self._vae = self._thread.call(_load, settings)

    async def ping(self) -> dict[str, Any]:
        return {}

    async def decode(self, request_id: str, denoised: Latents, spec: PreviewSpec) -> Picture:
        with failing_as(request_id, "preview_decode"):
            return await self._thread.run(self._vae.preview, denoised, spec)


def _load(settings: AppSettings) -> "TinyVAE":
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import tiny_vae_source
    from glimpse.decoders import TinyVAE

    vae = TinyVAE(tiny_vae_source(settings.model), settings.preview_decoder.channels_last)
    vae.warm_up(settings.model.width, settings.model.height)
    return vae
