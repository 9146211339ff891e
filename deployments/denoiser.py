"""The denoising stage."""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing

from config.settings import AppSettings
from deployments import preview_decoder
from deployments.meter import ServeMeter
from deployments.references import Inputs, KeptInputs
from deployments.stage import StageDeployment
from glimpse.direct import Denoising, PreviewDecoding
from glimpse.meter import Meter
from glimpse.ports import DenoiseOptions, Job, StepEvent
from glimpse.stage import failing_as
from glimpse.torch_thread import TorchThread


class Denoiser(StageDeployment):
    def __init__(self, settings: AppSettings) -> None:
        super().__init__(settings, settings.denoiser.threads)
        meter = ServeMeter()
        meter.start()
        self._stage: Denoising = self._thread.call(_load_alone, settings, self._thread, meter)
        self._inputs = KeptInputs()

    async def denoise(
        self, job: Job, inputs: Inputs, options: DenoiseOptions
    ) -> AsyncGenerator[StepEvent, None]:
        with failing_as(job.id, "denoise"):
            conditioning, image = await self._inputs.take(inputs, options.session)
        async with aclosing(self._stage.denoise(job, conditioning, image, options)) as steps:
            async for event in steps:
                yield event

    async def denoise_to_the_end(
        self, job: Job, inputs: Inputs, options: DenoiseOptions
    ) -> StepEvent | None:
        """The last event alone."""
        last = None
        async with aclosing(self.denoise(job, inputs, options)) as steps:
            async for event in steps:
                last = event
        return last


def _load_alone(settings: AppSettings, thread: TorchThread, meter: Meter) -> Denoising:
    """On that thread, with a TinyVAE of its own: a realtime message is one hop, not two."""
    return load(settings, thread, preview_decoder.load(settings, thread), meter)


def load(
    settings: AppSettings, thread: TorchThread, decoder: PreviewDecoding, meter: Meter
) -> Denoising:
    """On that thread."""
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import model_source
    from glimpse.engine.loop import Engine
    from glimpse.engine.row_budget import probe
    from glimpse.families.sdxl import SDXLNetwork, Tuning

    chosen = settings.denoiser
    tuning = Tuning(
        threads=chosen.threads,
        traced=chosen.traced,
        channels_last=chosen.channels_last,
        compiled=chosen.compiled,
        cuda_graphs=chosen.cuda_graphs,
        attention_backend=chosen.attention_backend,
    )
    network = SDXLNetwork(model_source(settings.model), tuning)
    network.warm_up(settings.model.width, settings.model.height)
    side = math.isqrt(settings.model.max_pixels)
    side -= side % network.latent_factor
    budget = chosen.row_budget or probe(
        lambda rows: network.run_blank(rows, side, side), network.device
    )
    return Denoising(Engine(network, thread, row_budget=budget, meter=meter), decoder)
