"""The text encoding stage: batched, with a cache by text."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache
from ray import serve

from config.settings import AppSettings
from deployments.references import Reference, put
from glimpse import logs
from glimpse.families.conditioning import Conditioning, TextEmbedding
from glimpse.stage import failing_as
from glimpse.torch_thread import TorchThread

if TYPE_CHECKING:
    from glimpse.families.sdxl import SDXLTextEncoder


class TextEncoder:
    def __init__(self, settings: AppSettings) -> None:
        logs.configure(settings.log_level)
        self._cache: LRUCache[str, TextEmbedding] = LRUCache(settings.text_encoder.cache_size)
        self._thread = TorchThread(settings.text_encoder.threads)
        self._encoder = self._thread.call(_load, settings)
        self._texts = self._calls = 0
        self._embed.set_max_batch_size(settings.text_encoder.max_batch_size)
        self._embed.set_batch_wait_timeout_s(settings.text_encoder.batch_wait_s)

    async def ping(self) -> dict[str, Any]:
        return {"texts": self._texts, "calls": self._calls}

    async def encode(self, request_id: str, prompt: str, negative_prompt: str | None) -> Reference:
        texts = [prompt] if negative_prompt is None else [prompt, negative_prompt]
        with failing_as(request_id, "text_encode"):
            prompt_, *negative = await asyncio.gather(*map(self._embedding, texts))
            return put(Conditioning(prompt_, negative[0] if negative else None))

    async def _embedding(self, text: str) -> TextEmbedding:
        embedding = self._cache.get(text)
        if embedding is None:
            embedding = self._cache[text] = await self._embed(text)
        return embedding

    @serve.batch  # type: ignore[untyped-decorator]
    async def _embed(self, texts: Sequence[str]) -> list[TextEmbedding]:
        self._texts += len(texts)
        self._calls += 1
        return await self._thread.run(self._encoder.encode, texts)


def _load(settings: AppSettings) -> "SDXLTextEncoder":
    # Here and not above: the process that builds the graph, and the ingress, never load torch.
    from deployments.model_source import model_source
    from glimpse.families.sdxl import SDXLTextEncoder

    encoder = SDXLTextEncoder(model_source(settings.model))
    encoder.encode(["warm up"])
    return encoder
