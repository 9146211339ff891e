"""The image decoding and encoding stage: the full VAE."""

from typing import TYPE_CHECKING, Any

from config.settings import AppSettings
from deployments.references import Reference, put
from glimpse import logs
from glimpse.ports import Latents, Picture
from glimpse.stage import failing_as
from glimpse.torch_thread import TorchThread

if TYPE_CHECKING:
    from glimpse.decoders import FullVAE


class ImageCodec:
    def __init__(self, settings: AppSettings) -> None:
        logs.configure(settings.log_level)
        self._thread = TorchThread(settings.image_codec.threads)
        self._vae = self._thread.call(_load, settings)

    async def ping(self) -> dict[str, Any]:
        return {}

    async def decode(self, request_id: str, latents: Latents, picture_format: str) -> Picture:
        with failing_as(request_id, "image_decode"):
            return await self._thread.run(self._vae.picture, latents, picture_format)

    async def encode(
        self, request_id: str, picture: bytes, width: int, height: int, mask: bytes | None
    ) -> Reference:
        with failing_as(request_id, "image_encode"):
            return put(await self._thread.run(self._vae.posterior, picture, width, height, mask))


def _load(settings: AppSettings) -> "FullVAE":
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import model_source
    from glimpse.decoders import FullVAE

    vae = FullVAE(model_source(settings.model), settings.image_codec.channels_last)
    vae.warm_up(settings.model.width, settings.model.height)
    return vae
