"""The image decoding and encoding stage: the full VAE."""

from config.settings import AppSettings
from deployments.stage import PictureDeployment
from glimpse.direct import ImageCoding
from glimpse.ports import Latents, Picture
from glimpse.torch_thread import TorchThread


class ImageCodec(PictureDeployment):
    def __init__(self, settings: AppSettings) -> None:
        super().__init__(settings, settings.image_codec.threads)
        self._stage: ImageCoding = self._thread.call(_load_alone, settings, self._thread)

    async def decode(
        self, request_id: str, latents: Latents, picture_format: str, quality: int
    ) -> Picture:
        return await self._stage.decode(request_id, latents, picture_format, quality)


def _load_alone(settings: AppSettings, thread: TorchThread) -> ImageCoding:
    """On that thread, in a process that has no other model."""
    from glimpse.lean_imports import lean_imports

    with lean_imports():
        return load(settings, thread)


def load(settings: AppSettings, thread: TorchThread) -> ImageCoding:
    """On that thread."""
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import vae_source
    from glimpse.decoders import FullVAE

    vae = FullVAE(vae_source(settings.model), settings.image_codec.channels_last)
    vae.warm_up(settings.model.width, settings.model.height)
    return ImageCoding(thread, vae, settings.image_codec.max_batch_pixels)
