"""The denoising stage."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from config.settings import AppSettings
from deployments.references import Reference, take
from glimpse import logs
from glimpse.ports import DenoiseOptions, Job, StepEvent
from glimpse.stage import failing_as
from glimpse.torch_thread import TorchThread

if TYPE_CHECKING:
    from glimpse.engine.loop import Engine


class Denoiser:
    def __init__(self, settings: AppSettings) -> None:
        logs.configure(settings.log_level)
        self._thread = TorchThread(settings.denoiser.threads)
        self._engine = self._thread.call(_load, settings, self._thread)

    async def ping(self) -> dict[str, Any]:
        return dict(self._engine.counters)

    async def denoise(
        self,
        job: Job,
        conditioning: Reference,
        image: Reference | None,
        options: DenoiseOptions,
    ) -> AsyncGenerator[StepEvent, None]:
        with failing_as(job.id, "denoise"):
            steps = self._engine.denoise(
                job,
                await take(conditioning, "text_encode"),
                None if image is None else await take(image, "image_encode"),
                options,
            )
            async with aclosing(steps):
                async for event in steps:
                    yield event


def _load(settings: AppSettings, thread: TorchThread) -> "Engine":
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import model_source
    from glimpse.engine.loop import Engine
    from glimpse.families.sdxl import SDXLNetwork

    network = SDXLNetwork(model_source(settings.model))
    network.warm_up(settings.model.width, settings.model.height)
    return Engine(network, thread, row_budget=settings.denoiser.row_budget)
