"""Every stage and the HTTP edge in one process, by direct calls."""

from typing import Any

from ray.serve.handle import DeploymentHandle

from config.settings import AppSettings
from deployments import denoiser, image_codec, preview_decoder, text_encoder
from deployments.access import refuse_exposure
from deployments.ingress import Edge
from deployments.meter import ServeMeter
from deployments.siblings import siblings
from deployments.stage import watched_thread
from glimpse.batches import Batches
from glimpse.direct import TextEncoding
from glimpse.failover import Failover
from glimpse.meter import Meter
from glimpse.ports import Stages
from glimpse.torch_thread import TorchThread


class Fused(Edge):
    def __init__(self, settings: AppSettings, key_limits: DeploymentHandle | None) -> None:
        refuse_exposure(settings.access)
        self._thread = watched_thread(settings.denoiser.threads, settings.recovery)
        meter = ServeMeter()
        meter.start()
        # In the split graph an ingress counts the stalls: a replica that hangs is killed before
        # it has reported them.
        self._thread.watch.alarms.add(lambda: meter.stalled("denoise"))
        self._stages = self._thread.call(_load, settings, self._thread, meter)
        # No other process has these stages: what is lost with this one is lost.
        failover = Failover(max_moves=0)
        super().__init__(settings, self._stages, failover, meter, siblings(), key_limits)

    async def ping(self) -> dict[str, Any]:
        """The counters of all the stages; `stalled` is 1 where the torch thread stands still."""
        stages = self._stages
        return {
            **await stages.text_encoder.ping(),
            **await stages.denoiser.ping(),
            **await stages.preview_decoder.ping(),
            **await stages.image_codec.ping(),
        }

    async def check_health(self) -> None:
        await super().check_health()
        self._thread.watch.raise_if_stalled()


def _load(settings: AppSettings, thread: TorchThread, meter: Meter) -> Stages:
    encoder = text_encoder.load(settings)
    embeds = Batches(thread, encoder.encode, most=lambda text: settings.text_encoder.max_batch_size)
    decoder = preview_decoder.load(settings, thread)
    return Stages(
        text_encoder=TextEncoding(encoder, embeds.run, settings.text_encoder.cache_size),
        denoiser=denoiser.load(settings, thread, decoder, meter),
        preview_decoder=decoder,
        image_codec=image_codec.load(settings, thread),
    )
