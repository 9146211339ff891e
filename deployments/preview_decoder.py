"""The preview decoding stage: TinyVAE."""

from config.settings import AppSettings
from deployments.stage import PictureDeployment
from glimpse.direct import PreviewDecoding
from glimpse.ports import Latents, Picture
from glimpse.request import PreviewSpec
from glimpse.torch_thread import TorchThread


class PreviewDecoder(PictureDeployment):
    def __init__(self, settings: AppSettings) -> None:
        super().__init__(settings, settings.preview_decoder.threads)
        self._stage: PreviewDecoding = self._thread.call(_load_alone, settings, self._thread)

    async def decode(self, request_id: str, denoised: Latents, spec: PreviewSpec) -> Picture:
        return await self._stage.decode(request_id, denoised, spec)


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
