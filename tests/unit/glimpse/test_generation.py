"""`glimpse.generation`: the flow of one generation, over fake stages."""

import asyncio
import logging
import threading
from collections.abc import Callable

import numpy as np
import pytest

from glimpse import generation
from glimpse.errors import DeadlineExceeded, GlimpseError, Overloaded, StageFailed, StageLost
from glimpse.event_log import Accepted, Cancelled, Event, EventLog, Failed, Final, Preview, Step
from glimpse.failover import Failover
from glimpse.ports import InputPixels, Latents, Picture, Priority, RoughPreviews
from glimpse.request import MAX_SEED, GenerationRequest, PreviewSpec
from tests.fakes import FakeStages, looked_at, make_request, rough_previews, until
from tests.wire.sent import ORANGE

PICTURE = looked_at(ORANGE)
PIXELS = np.zeros((128, 128, 3), np.uint8)
CELLS = np.ones((16, 16), bool)


class Run:
    """A generation under way over fakes, and its log."""

    def __init__(
        self,
        stages: FakeStages,
        request: GenerationRequest,
        deadline_s: float = 5,
        rough: RoughPreviews | None = None,
        failover: Failover | None = None,
    ) -> None:
        self.log = EventLog(100)
        pictures = None
        if request.image is not None:
            pictures = InputPixels(PIXELS, None if request.mask is None else CELLS)
        flow = stages.flow(deadline_s=deadline_s, rough=rough, failover=failover)
        self.task = asyncio.create_task(
            generation.run(
                request, self.log, flow, priority=Priority.INTERACTIVE, pictures=pictures
            )
        )

    async def events(self) -> list[Event]:
        """All of them, once the generation has ended."""
        await asyncio.wait({self.task}, timeout=5)
        assert self.log.ended
        return [event async for _, event in self.log.read()]

    def previews(self) -> list[int]:
        return [event.step for _, event in self.log._events if isinstance(event, Preview)]

    def shown(self) -> list[bytes]:
        """The previews' bytes, which say who made them of which step. Each is marked rightly."""
        previews = [event for _, event in self.log._events if isinstance(event, Preview)]
        for event in previews:
            assert (
                event.picture.data == (b"rough %d" if event.rough else b"preview %d") % event.step
            )
        return [event.picture.data for event in previews]


async def test_the_stages_are_told_what_the_request_says() -> None:
    stages = FakeStages()
    request = make_request(negative_prompt="blur", num_inference_steps=6, guidance_scale=3.5)
    events = await Run(stages, request).events()
    assert stages.text_encoder.texts == [("a lighthouse", "blur")]
    (job,) = stages.denoiser.jobs
    assert (job.width, job.height, job.num_inference_steps) == (128, 128, 6)
    assert (job.guidance_scale, job.seed, job.scheduler, job.strength) == (3.5, 7, "euler", 1.0)
    assert stages.denoiser.emit_denoised_at == [frozenset({1, 2, 3, 4, 5})]
    assert stages.denoiser.priorities == [Priority.INTERACTIVE]
    assert 4 < (stages.denoiser.deadlines_s[0] or 0) <= 5
    assert set(stages.preview_decoder.specs) == {request.preview}
    assert events[0] == Accepted()
    final = events[-1]
    assert isinstance(final, Final)
    assert final.steps == 6
    assert [picture.data for picture in final.pictures] == [b"picture 7"]
    assert final.pictures[0].content_type == "image/png"
    assert stages.at_work == 0


async def test_what_was_not_done_is_told_with_the_pictures() -> None:
    stages = FakeStages()
    stages.text_encoder.cut = (1, 12)
    request = make_request(negative_prompt="blur", warnings=("strength is odd.",))
    final = (await Run(stages, request).events())[-1]
    assert isinstance(final, Final)
    assert final.warnings == (
        "strength is odd.",
        "prompt is longer than the text encoders read: its last token has no effect.",
        "negative_prompt is longer than the text encoders read: its last 12 tokens have no effect.",
    )
    assert (await Run(FakeStages(), make_request()).events())[-1].warnings == ()  # type: ignore[union-attr]


async def test_timings_are_those_of_the_stages_and_the_way_to_the_denoiser_is_queue() -> None:
    stages = FakeStages()
    stages.text_encoder.gate.clear()
    stages.image_codec.decode_s = 0.01
    denoising, decoding = stages.denoiser.hold(1), stages.image_codec.hold(7)
    run = Run(stages, make_request())
    await asyncio.sleep(0.03)
    stages.text_encoder.gate.set()
    await until(lambda: stages.denoiser.open == 1)
    await asyncio.sleep(0.03)
    denoising.set()
    await until(lambda: stages.image_codec.open == 1)
    await asyncio.sleep(0.03)
    decoding.set()
    final = (await run.events())[-1]
    assert isinstance(final, Final)
    assert final.timings.text_encode >= 0.02
    assert final.timings.queue >= 0.02  # the fake denoiser says that its steps took no time
    assert final.timings.denoise == 0
    assert final.timings.decode == 0.01  # as the decoder says: the wait for it is none of its work
    assert final.timings.text_encode + final.timings.decode <= final.timings.total < 1


async def test_the_text_and_the_input_picture_are_encoded_at_the_same_time() -> None:
    stages = FakeStages()
    stages.text_encoder.gate.clear()
    stages.image_codec.encoding_gate.clear()
    run = Run(stages, make_request(image=PICTURE))
    await until(lambda: stages.at_work == 2)
    assert stages.denoiser.jobs == []
    stages.text_encoder.gate.set()
    stages.image_codec.encoding_gate.set()
    assert isinstance((await run.events())[-1], Final)


async def test_an_input_picture_goes_to_the_codec_and_from_there_to_the_denoiser() -> None:
    stages = FakeStages()
    events = await Run(stages, make_request(image=PICTURE, strength=0.5, progress=True)).events()
    [encoded] = stages.image_codec.encoded
    assert encoded is PIXELS
    assert stages.image_codec.masks == [None]
    assert stages.denoiser.given == [("conditioning", "image")]
    assert stages.denoiser.jobs[0].strength == 0.5
    assert [event for event in events if isinstance(event, Step)] == [Step(1, 2), Step(2, 2)]


async def test_a_mask_goes_to_the_codec_with_its_picture_once_for_all_pictures() -> None:
    stages = FakeStages()
    request = make_request(image=PICTURE, mask=PICTURE, strength=0.5, num_images=2)
    assert isinstance((await Run(stages, request).events())[-1], Final)
    [encoded], [cells] = stages.image_codec.encoded, stages.image_codec.masks
    assert encoded is PIXELS and cells is CELLS
    assert stages.denoiser.given == [("conditioning", "image")] * 2


async def test_several_pictures_are_jobs_with_seeds_that_follow_one_another() -> None:
    stages = FakeStages()
    events = await Run(
        stages, make_request(num_images=3, seed=MAX_SEED - 1, progress=True)
    ).events()
    assert [job.seed for job in stages.denoiser.jobs] == [MAX_SEED - 1, MAX_SEED, 0]
    assert len({job.id for job in stages.denoiser.jobs}) == 3
    assert len(stages.text_encoder.texts) == 1
    final = events[-1]
    assert isinstance(final, Final)
    assert final.pictures[2].data == b"picture 0"
    # Steps and previews are of the first picture only.
    assert stages.denoiser.emit_denoised_at == [frozenset({1, 2, 3}), frozenset(), frozenset()]
    assert sum(isinstance(event, Step) for event in events) == 4


async def test_steps_are_told_of_only_where_that_is_wanted() -> None:
    stages = FakeStages()
    events = await Run(stages, make_request()).events()
    assert not any(isinstance(event, Step) for event in events)
    assert any(isinstance(event, Preview) for event in events)


async def test_pictures_are_in_the_order_of_their_seeds_whichever_is_first() -> None:
    stages = FakeStages()
    first = stages.image_codec.hold(7)
    run = Run(stages, make_request(num_images=4))
    await until(lambda: stages.denoiser.steps_run == 4 * 4 and stages.at_work == 1)
    first.set()
    final = (await run.events())[-1]
    assert isinstance(final, Final)
    assert [picture.data for picture in final.pictures] == [
        b"picture 7",
        b"picture 8",
        b"picture 9",
        b"picture 10",
    ]


async def test_of_the_previews_that_wait_for_the_decoder_the_newest_wins() -> None:
    stages = FakeStages()
    stages.preview_decoder.gate.clear()
    last_step = stages.denoiser.hold(4)
    run = Run(stages, make_request())
    # Denoising goes on to the gate of step 4 although no preview has been decoded.
    await until(lambda: stages.denoiser.steps_run == 3)
    await until(lambda: stages.preview_decoder.open == 1)
    assert run.previews() == []
    stages.preview_decoder.gate.set()
    await until(lambda: run.previews() == [1, 3])
    last_step.set()
    final = (await run.events())[-1]
    assert isinstance(final, Final)
    assert stages.preview_decoder.steps == [1, 3]
    assert final.previews_late == 1


async def test_a_picture_that_is_ready_does_not_wait_for_a_late_preview() -> None:
    stages = FakeStages()
    stages.preview_decoder.gate.clear()
    run = Run(stages, make_request())
    events = await run.events()
    assert isinstance(events[-1], Final)
    assert run.previews() == []
    assert stages.at_work == 0
    stages.preview_decoder.gate.set()
    await asyncio.sleep(0.01)
    assert run.previews() == []


TROUBLE = [StageLost("preview_decode"), StageFailed("preview_decode"), Overloaded("Full.")]


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.code)
async def test_a_picture_is_not_given_up_for_a_preview(trouble: Exception) -> None:
    stages = FakeStages()
    stages.preview_decoder.error = trouble
    last_step = stages.denoiser.hold(4)
    run = Run(stages, make_request())
    await until(lambda: stages.preview_decoder.steps[-1:] == [3])
    await asyncio.sleep(0)
    stages.preview_decoder.error = None
    last_step.set()
    final = (await run.events())[-1]
    assert isinstance(final, Final)
    assert final.previews_late == 3
    assert run.previews() == []


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.code)
async def test_where_the_preview_stage_is_gone_or_full_previews_are_rough(
    trouble: Exception,
) -> None:
    stages = FakeStages()
    stages.preview_decoder.error = trouble
    gates = [stages.denoiser.hold(step) for step in (2, 3, 4)]
    run = Run(stages, make_request(), rough=rough_previews(limit_s=5))
    await until(lambda: run.shown() == [b"rough 1"])  # at once: the limit is for the late
    gates[0].set()
    await until(lambda: run.shown() == [b"rough 1", b"rough 2"])
    stages.preview_decoder.error = None  # another has its place
    gates[1].set()
    await until(lambda: run.shown() == [b"rough 1", b"rough 2", b"preview 3"])
    gates[2].set()
    final = (await run.events())[-1]
    assert isinstance(final, Final)
    assert final.previews_late == 0
    assert final.pictures[0].data == b"picture 7"


async def test_a_decoder_that_hangs_is_given_up_for_a_rough_preview_of_the_newest() -> None:
    stages = FakeStages()
    stages.preview_decoder.gate.clear()
    steps = {step: stages.denoiser.hold(step) for step in (4, 5)}
    run = Run(stages, make_request(num_inference_steps=5), rough=rough_previews(limit_s=0.3))
    await until(lambda: stages.denoiser.steps_run == 3)
    assert run.shown() == []
    await until(lambda: run.shown() == [b"rough 3"])  # 1 was given up, 2 and it overtaken
    assert stages.preview_decoder.steps == [1]
    assert stages.preview_decoder.open == 0  # the call is cancelled: nothing is left to queue
    stages.preview_decoder.gate.set()  # and it is asked again as soon as there is something new
    steps[4].set()
    await until(lambda: run.shown() == [b"rough 3", b"preview 4"])
    steps[5].set()
    final = (await run.events())[-1]
    assert isinstance(final, Final)
    assert final.previews_late == 2
    assert stages.at_work == 0


async def test_a_decoder_that_is_slow_but_within_the_limit_is_waited_for() -> None:
    stages = FakeStages()
    stages.preview_decoder.gate.clear()
    last_step = stages.denoiser.hold(2)
    run = Run(stages, make_request(num_inference_steps=2), rough=rough_previews(limit_s=5))
    await until(lambda: stages.preview_decoder.open == 1)
    stages.preview_decoder.gate.set()
    await until(lambda: run.shown() == [b"preview 1"])
    last_step.set()
    assert isinstance((await run.events())[-1], Final)


async def test_a_picture_that_is_ready_does_not_wait_for_a_rough_preview() -> None:
    made, go_on = threading.Event(), threading.Event()

    def decode(denoised: Latents, spec: PreviewSpec) -> Picture:
        made.set()
        assert go_on.wait(5)
        return Picture(b"", "image/jpeg", 1, 1)

    stages = FakeStages()
    stages.preview_decoder.error = StageLost("preview_decode")
    last_step = stages.denoiser.hold(2)
    run = Run(stages, make_request(num_inference_steps=2), rough=RoughPreviews(decode, 5))
    await until(made.is_set)  # and the loop goes on beside it
    last_step.set()
    assert isinstance((await run.events())[-1], Final)
    assert run.previews() == []
    go_on.set()


@pytest.mark.parametrize("failure", [ValueError("4 channels, not 16"), TimeoutError("secret")])
@pytest.mark.parametrize("roughly", [False, True])
async def test_no_failure_of_a_preview_costs_more_than_that_preview(
    failure: Exception, roughly: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is raised, by the decoder or by the rough map: foreseen or not."""

    def decode(denoised: Latents, spec: PreviewSpec) -> Picture:
        raise failure

    stages = FakeStages()
    stages.preview_decoder.error = StageLost("preview_decode") if roughly else failure
    gates = [stages.denoiser.hold(step) for step in (2, 3, 4)]
    run = Run(stages, make_request(), rough=RoughPreviews(decode, 5) if roughly else None)
    for count, gate in enumerate(gates, start=1):
        await until(lambda count=count: caplog.text.count("is lost\n") == count)  # type: ignore[misc]
        if count == 2:
            stages.preview_decoder.error = None
        gate.set()
        if count == 2:
            await until(lambda: run.shown() == [b"preview 3"])
            break
    gates[2].set()
    final = (await run.events())[-1]
    assert isinstance(final, Final)
    assert final.previews_late == 2
    assert final.pictures[0].data == b"picture 7"


async def test_what_was_lost_with_its_encoder_is_encoded_again() -> None:
    stages = FakeStages()
    stages.denoiser.lost_once = StageLost("text_encode")
    events = await Run(stages, make_request(), failover=Failover(max_moves=1)).events()
    assert isinstance(events[-1], Final)
    assert len(stages.text_encoder.texts) == 2
    assert len(stages.denoiser.jobs) == 2


async def test_without_previews_the_decoder_is_left_alone() -> None:
    stages = FakeStages()
    request = make_request(num_inference_steps=1)
    assert isinstance((await Run(stages, request).events())[-1], Final)
    assert stages.preview_decoder.steps == []


BROKEN = StageFailed("some", "It broke.")


def break_text_encoder(stages: FakeStages) -> None:
    stages.text_encoder.error = BROKEN
    stages.image_codec.encoding_gate.clear()  # for ever: the failure must not wait for the image


def break_image_encoder(stages: FakeStages) -> None:
    stages.image_codec.encode_error = BROKEN
    stages.text_encoder.gate.clear()  # for ever


def break_first_step(stages: FakeStages) -> None:
    stages.denoiser.errors[1] = BROKEN


def break_later_step(stages: FakeStages) -> None:
    stages.denoiser.errors[3] = BROKEN


def break_picture_decoder(stages: FakeStages) -> None:
    stages.image_codec.decode_error = BROKEN


@pytest.mark.parametrize(
    "break_stage",
    [
        break_text_encoder,
        break_image_encoder,
        break_first_step,
        break_later_step,
        break_picture_decoder,
    ],
)
@pytest.mark.parametrize("num_images", [1, 3])
async def test_a_stage_that_fails_ends_it_in_one_failure_and_nothing_goes_on(
    break_stage: Callable[[FakeStages], None], num_images: int
) -> None:
    stages = FakeStages()
    break_stage(stages)
    run = Run(stages, make_request(image=PICTURE, strength=1.0, num_images=num_images))
    events = await run.events()
    assert run.task.exception() is None
    assert [e for e in events if isinstance(e, Final | Failed | Cancelled)] == [Failed(BROKEN)]
    assert stages.at_work == 0
    steps = stages.denoiser.steps_run
    await asyncio.sleep(0.01)
    assert stages.denoiser.steps_run == steps


async def test_a_denoiser_that_stops_early_is_a_failure() -> None:
    stages = FakeStages()
    stages.denoiser.last_step = 2
    failed = (await Run(stages, make_request()).events())[-1]
    assert isinstance(failed, Failed)
    assert failed.error.code == "stage_failed"
    assert "before the last step" in failed.error.message


@pytest.mark.parametrize("failure", [RuntimeError("secret"), TimeoutError("secret")])
async def test_a_failure_that_nobody_foresaw_tells_the_client_nothing_of_itself(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    stages = FakeStages()
    stages.denoiser.errors[2] = failure
    failed = (await Run(stages, make_request()).events())[-1]
    assert isinstance(failed, Failed)
    assert type(failed.error) is GlimpseError
    assert "secret" not in failed.error.message
    assert "secret" in caplog.text  # but the log has it


async def test_a_cancelled_generation_stops_before_its_next_step() -> None:
    stages = FakeStages()
    stages.denoiser.hold(3)
    run = Run(stages, make_request(num_images=2))
    await until(lambda: stages.denoiser.steps_run == 4)
    run.task.cancel()
    events = await run.events()
    assert run.task.cancelled()
    assert isinstance(events[-1], Cancelled)
    assert sorted(stages.denoiser.cancelled) == ["r1/0", "r1/1"]
    assert stages.denoiser.steps_run == 4
    assert stages.at_work == 0


async def test_past_its_deadline_a_generation_fails_and_nothing_goes_on() -> None:
    stages = FakeStages()
    stages.denoiser.hold(2)
    run = Run(stages, make_request(), deadline_s=0.05)
    failed = (await run.events())[-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, DeadlineExceeded)
    assert failed.error.message == "The picture was not ready within 0.05 seconds."
    assert stages.denoiser.cancelled == ["r1/0"]
    assert stages.at_work == 0


async def test_the_log_says_how_it_went_and_never_what_was_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "glimpse")
    stages = FakeStages()
    await Run(stages, make_request(prompt="my prompt", negative_prompt="my fears")).events()
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert "128x128, 4 steps, 1 picture" in caplog.text
    assert "my prompt" not in caplog.text
    assert "my fears" not in caplog.text
