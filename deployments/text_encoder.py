"""The text encoding stage: batched, with a cache by text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray import serve

from config.settings import AppSettings
from deployments.stage import StageDeployment
from glimpse.direct import TextEncoding
from glimpse.families.conditioning import Conditioning, TextEmbedding

if TYPE_CHECKING:
    from glimpse.families.sdxl import SDXLTextEncoder


class TextEncoder(StageDeployment):
    def __init__(self, settings: AppSettings) -> None:
        super().__init__(settings, settings.text_encoder.threads)
        self._encoder = self._thread.call(load, settings)
        self._stage: TextEncoding = TextEncoding(
            self._encoder, self._embed, settings.text_encoder.cache_size
        )
        self._embed.set_max_batch_size(settings.text_encoder.max_batch_size)
        self._embed.set_batch_wait_timeout_s(settings.text_encoder.batch_wait_s)

    async def encode(
        self, request_id: str, prompt: str, negative_prompt: str | None
    ) -> Conditioning:
        encoded = await self._stage.encode(request_id, prompt, negative_prompt)
        conditioning: Conditioning = encoded.conditioning
        return conditioning

    @serve.batch  # type: ignore[untyped-decorator]
    async def _embed(self, texts: Sequence[str]) -> list[TextEmbedding]:
        return await self._thread.run(self._encoder.encode, texts)


def load(settings: AppSettings) -> "SDXLTextEncoder":
    """On the torch thread."""
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import model_source
    from glimpse.families.sdxl import SDXLTextEncoder

    encoder = SDXLTextEncoder(model_source(settings.model))
    encoder.encode(["warm up"])
    return encoder
