"""The base of all stages' actors: a torch thread, and its watchdog."""

from typing import Any

from config.settings import AppSettings, RecoverySettings
from glimpse import logs
from glimpse.input_pictures.masks import Cells
from glimpse.input_pictures.reading import Pixels
from glimpse.ports import ImageCodec, Opaque, PreviewDecoder, Stage
from glimpse.torch_thread import TorchThread
from glimpse.watch import Bounds, Watch


def watched_thread(threads: int, recovery: RecoverySettings) -> TorchThread:
    watch = Watch(
        Bounds(
            stall_s=recovery.stall_s,
            loading_s=recovery.loading_s,
            compiling_s=recovery.compiling_s,
            recording_s=recovery.recording_s,
            first_call_s=recovery.first_call_s,
        )
    )
    watch.start()
    return TorchThread(threads, watch)


class StageDeployment:
    """One stage in an actor of its own, `_stage`."""

    _stage: Stage

    def __init__(self, settings: AppSettings, threads: int) -> None:
        logs.configure(settings.log_level)
        self._thread = watched_thread(threads, settings.recovery)

    async def ping(self) -> dict[str, Any]:
        """The stage's counters; `stalled` is 1 where it stands still."""
        return {**await self._stage.ping(), "stalled": int(self._thread.watch.stalled)}

    async def check_health(self) -> None:
        """Serve replaces a replica where this raises."""
        self._thread.watch.raise_if_stalled()


class PictureDeployment(StageDeployment):
    """One that encodes input pictures, beside what it decodes."""

    _stage: ImageCodec | PreviewDecoder

    async def encode(self, request_id: str, picture: Pixels, mask: Cells | None) -> Opaque:
        return await self._stage.encode(request_id, picture, mask)
