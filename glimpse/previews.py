"""Previews of one generation: estimates decoded beside denoising, in order."""

import asyncio
import logging
import time
from dataclasses import dataclass

from glimpse.errors import GlimpseError
from glimpse.event_log import EventLog, Preview
from glimpse.meter import Meter
from glimpse.ports import Latents, Picture, PreviewDecoder, RoughPreviews
from glimpse.request import GenerationRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Estimate:
    step: int
    steps: int
    denoised: Latents


class NewestPreview:
    """Decodes estimates beside denoising, in order. While one is decoded only the newest of those
    that arrive is kept, so that a late preview is dropped and never queued.
    """

    def __init__(
        self,
        decoder: PreviewDecoder,
        rough: RoughPreviews | None,
        request: GenerationRequest,
        log: EventLog,
        meter: Meter,
    ) -> None:
        self._decoder = decoder
        self._rough = rough
        self._request = request
        self._log = log
        self._meter = meter
        self._accepted = time.monotonic()
        self._shown = False
        self._newest: asyncio.Queue[Estimate] = asyncio.Queue(maxsize=1)
        self.late = 0

    def offer(self, estimate: Estimate) -> None:
        if self._newest.full():
            self._newest.get_nowait()
            self._drop()
        self._newest.put_nowait(estimate)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            estimate = await self._newest.get()
            picture = await self._decode(estimate)
            if picture is not None:
                self._show(estimate, picture, rough=False)
            elif self._rough is None:
                self._drop()
            else:
                await self._show_roughly(estimate, self._rough)

    async def _decode(self, estimate: Estimate) -> Picture | None:
        """None where the stage fails, or is late and there is something to show instead: whatever
        happens to a preview, the picture goes on.
        """
        limit_s = None if self._rough is None else self._rough.limit_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await self._decoder.decode(
                    self._request.request_id, estimate.denoised, self._request.preview
                )
        except GlimpseError as failure:
            logger.warning("a preview is lost: %s", failure.message)
        except Exception:
            if limit.expired():
                logger.warning("a preview is late, and no longer waited for")
            else:
                logger.exception("a preview is lost")
        return None

    async def _show_roughly(self, estimate: Estimate, rough: RoughPreviews) -> None:
        if self._newest.full():
            self._drop()
            estimate = self._newest.get_nowait()
        try:
            picture = await asyncio.to_thread(
                rough.decode, estimate.denoised, self._request.preview
            )
        except Exception:
            logger.exception("a rough preview is lost")
            self._drop()
        else:
            self._show(estimate, picture, rough=True)

    def _show(self, estimate: Estimate, picture: Picture, *, rough: bool) -> None:
        self._log.append(Preview(estimate.step, estimate.steps, picture, rough=rough))
        self._meter.preview("rough" if rough else "decoded")
        if not self._shown:
            self._shown = True
            self._meter.first_preview(time.monotonic() - self._accepted)

    def _drop(self) -> None:
        self.late += 1
        self._meter.preview("dropped")
