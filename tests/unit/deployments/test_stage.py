"""`deployments.stage`: what Serve and the flow hear of a stage that stands still."""

import threading

import pytest

from config.settings import AppSettings, RecoverySettings
from deployments.denoiser import Denoiser
from deployments.image_codec import ImageCodec
from deployments.preview_decoder import PreviewDecoder
from deployments.stage import StageDeployment, watched_thread
from deployments.text_encoder import TextEncoder
from glimpse.watch import Patience, Stalled
from tests.fakes import FakeStage, until


async def test_a_stage_that_stands_still_says_so_and_fails_its_health_check() -> None:
    settings = AppSettings()
    stage = StageDeployment(settings, 1)
    stage._stage = FakeStage()
    watch = stage._thread.watch
    watch.close()  # from here on the test polls
    free = threading.Event()
    try:
        await stage.check_health()
        assert (await stage.ping())["stalled"] == 0
        stage._thread.post(free.wait, 60)
        now = watch.clock()
        watch.clock = lambda: now
        watch._patience = Patience(lambda: 1.0)
        while now < watch._polled + settings.recovery.stall_s and not watch.stalled:
            now += 0.5
            watch.poll()
        assert watch.stalled
        with pytest.raises(Stalled):
            await stage.check_health()
        assert (await stage.ping())["stalled"] == 1
        free.set()
        await until(lambda: not stage._thread._pending)
        watch.poll()
        await stage.check_health()
    finally:
        free.set()
        stage._thread.close()


def test_every_stage_has_that() -> None:
    for deployment in (Denoiser, TextEncoder, PreviewDecoder, ImageCodec):
        assert issubclass(deployment, StageDeployment)


def test_a_thread_is_watched_with_the_bounds_of_the_settings() -> None:
    recovery = RecoverySettings(
        stall_s=6, loading_s=7, compiling_s=8, recording_s=9, first_call_s=10
    )
    thread = watched_thread(1, recovery)
    bounds = thread.watch.bounds
    assert bounds.stall_s == 6
    for phase, bound_s in (("loading", 7), ("compiling", 8), ("recording", 9), ("first call", 10)):
        assert bounds.of(phase) == bound_s  # type: ignore[arg-type]
    assert "watch" in {each.name for each in threading.enumerate()}
    thread.close()
