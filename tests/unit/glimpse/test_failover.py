"""`glimpse.failover`, `glimpse.picture_job`: what is lost with a replica is made on another one."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deployments.shared import Shared
from glimpse import generation
from glimpse.errors import DeadlineExceeded, GlimpseError, StageFailed, StageLost, StageStalled
from glimpse.event_log import EventLog, Failed, Final, Preview, Step
from glimpse.failover import Failover
from glimpse.generation import SessionMemory
from glimpse.ports import DenoiseOptions, InputPixels, Job, Opaque, Priority, StepEvent
from glimpse.trials import Trials
from tests.fakes import FakeMeter, FakeStage, FakeStages, looked_at, make_request, until
from tests.wire.sent import ORANGE

LOST = StageLost("denoise")
STALLED = StageStalled("denoise")
TWENTY: dict[str, Any] = {"num_inference_steps": 20, "progress": True}


def failover(max_moves: int = 2, every: int | None = 5) -> Failover:
    return Failover(max_moves=max_moves, checkpoint_every_steps=every)


async def run(
    stages: FakeStages, moves: Failover, meter: FakeMeter | None = None, **changes: Any
) -> EventLog:
    log = EventLog(200)
    request = make_request(**changes)
    flow = stages.flow(failover=moves, meter=meter)
    async with asyncio.timeout(5):
        await generation.run(request, log, flow, priority=Priority.INTERACTIVE)
    return log


def final(log: EventLog) -> Final:
    last = log._events[-1][1]
    assert isinstance(last, Final), last
    return last


def failure(log: EventLog) -> GlimpseError:
    last = log._events[-1][1]
    assert isinstance(last, Failed), last
    return last.error


def steps(log: EventLog) -> list[int]:
    return [event.step for _, event in log._events if isinstance(event, Step)]


@pytest.mark.parametrize("lost", [LOST, STALLED], ids=["lost", "stalled"])
@pytest.mark.parametrize("at", [1, 2, 5, 6, 7, 11, 16, 20])
async def test_a_job_goes_on_from_its_newest_checkpoint_and_no_step_is_told_of_twice(
    lost: StageLost, at: int
) -> None:
    stages = FakeStages()
    stages.denoiser.losses = [(at, lost)]
    log = await run(stages, failover(), **TWENTY)
    assert final(log).pictures[0].data == b"picture 7"
    assert steps(log) == list(range(1, 21))
    first, second = stages.denoiser.resumed_from
    assert first == 0
    assert second == at - 1  # previews are of every step here, and each has a checkpoint
    assert stages.denoiser.steps_run == 20


@pytest.mark.parametrize("at", range(1, 21))
async def test_no_more_steps_are_made_again_than_a_checkpoint_is_old(at: int) -> None:
    stages = FakeStages()
    stages.denoiser.losses = [(at, LOST)]
    request = replace(make_request().preview, every=0)
    log = await run(stages, failover(every=4), **TWENTY, preview=request)
    assert steps(log) == list(range(1, 21))
    last_told, newest = at - 1, stages.denoiser.resumed_from[1]
    assert newest % 4 == 0 and last_told - newest <= 4 + 1
    assert stages.denoiser.steps_run == 20 + last_told - newest


async def test_previews_go_on_with_the_next_one() -> None:
    stages = FakeStages()
    preview = replace(make_request().preview, every=5)
    stages.denoiser.losses = [(9, LOST)]
    held = stages.denoiser.hold(20)
    log = EventLog(200)
    flow = stages.flow(failover=failover())
    request = make_request(num_inference_steps=20, preview=preview)
    task = asyncio.create_task(generation.run(request, log, flow, priority=Priority.INTERACTIVE))
    await until(lambda: stages.preview_decoder.steps[-1:] == [15])
    held.set()
    await task
    shown = [event.step for _, event in log._events if isinstance(event, Preview)]
    assert shown == sorted(set(shown))
    assert stages.denoiser.options[1].emit_denoised_at == {10, 15}
    assert stages.denoiser.options[1].emit_state_at == {10, 15}
    assert stages.denoiser.resumed_from == [0, 5]


async def test_where_there_is_nothing_to_gain_no_checkpoint_is_taken() -> None:
    """So a job of which only the end is told stays one answer, and begins anew when it is lost."""
    silent = replace(make_request().preview, every=0)
    for moves, count in (
        (failover(every=5), 5),
        (failover(every=None), 20),
        (failover(max_moves=0), 20),
    ):
        stages = FakeStages()
        await run(stages, moves, num_inference_steps=count, preview=silent)
        assert stages.denoiser.options[0].told == frozenset()
    stages = FakeStages()
    stages.denoiser.losses = [(3, LOST)]
    log = await run(stages, failover(), num_inference_steps=4, preview=silent)
    assert final(log).steps == 4
    assert stages.denoiser.resumed_from == [0, 0]
    assert stages.denoiser.steps_run == 2 + 4


async def test_timings_add_up_over_two_replicas() -> None:
    stages = FakeStages()
    stages.denoiser.step_says_s = 0.001
    stages.denoiser.step_s = 0.001
    stages.denoiser.losses = [(13, LOST)]
    silent = replace(make_request().preview, every=0)
    timings = final(await run(stages, failover(), **TWENTY, preview=silent)).timings
    assert timings.denoise == pytest.approx(0.020)  # ten steps and ten: two were made twice
    assert timings.queue + timings.denoise + timings.decode <= timings.total


@pytest.mark.parametrize("max_moves", [0, 1, 2])
async def test_a_job_moves_only_so_often(max_moves: int) -> None:
    stages = FakeStages()
    stages.denoiser.losses = [(step, LOST) for step in (3, 7, 12, 15)][: max_moves + 1]
    error = failure(await run(stages, failover(max_moves), **TWENTY))
    if max_moves < 2:
        assert error is LOST
    assert len(stages.denoiser.jobs) == max_moves + 1
    assert stages.at_work == 0


async def test_the_second_move_is_alone_until_the_job_is_past_where_it_was_lost() -> None:
    stages = FakeStages()
    stages.denoiser.losses = [(8, LOST), (8, LOST)]
    silent = replace(make_request().preview, every=0)
    log = await run(stages, failover(), num_inference_steps=20, preview=silent)
    assert final(log).steps == 20
    assert [options.alone_until for options in stages.denoiser.options] == [0, 0, 15]


async def test_a_job_that_passed_its_trial_may_be_lost_again_like_any_other() -> None:
    stages = FakeStages()
    stages.denoiser.losses = [(8, LOST), (8, LOST), (17, LOST)]
    error = failure(await run(stages, failover(max_moves=2), num_inference_steps=20))
    assert error is LOST  # three losses, but none in its trial: it is not called the cause
    stages.denoiser.losses = [(8, LOST), (8, LOST), (17, LOST)]
    assert final(await run(stages, failover(max_moves=3), num_inference_steps=20)).steps == 20


async def test_a_lost_codec_gets_the_final_latents_again() -> None:
    stages = FakeStages()
    stages.image_codec.losses = [StageLost("image_decode"), StageStalled("image_decode")]
    log = await run(stages, failover())
    assert final(log).pictures[0].data == b"picture 7"
    assert len(stages.denoiser.jobs) == 1
    assert len(stages.image_codec.qualities) == 3


async def test_a_lost_encoder_is_asked_again_also_for_a_job_that_moves() -> None:
    stages = FakeStages()
    stages.text_encoder.losses = [StageLost("text_encode")]
    stages.denoiser.losses = [(7, LOST), (8, StageLost("text_encode"))]  # with what it had made
    log = await run(stages, failover(), **TWENTY)
    assert final(log).pictures[0].data == b"picture 7"
    assert len(stages.text_encoder.texts) == 3
    assert stages.denoiser.resumed_from == [0, 6, 7]


@pytest.mark.parametrize(
    "losses",
    [
        [(7, LOST), (8, StageLost("text_encode"))],
        [(7, LOST), (8, LOST), (8, StageLost("text_encode"))],
        [(1, StageLost("text_encode")), (2, LOST), (3, StageLost("image_encode")), (4, LOST)],
    ],
)
async def test_losses_of_inputs_and_of_denoisers_are_counted_apart(
    losses: list[tuple[int, StageLost]],
) -> None:
    stages = FakeStages()
    stages.denoiser.losses = losses
    log = await run(stages, failover(max_moves=2), **TWENTY)
    assert final(log).pictures[0].data == b"picture 7"
    assert steps(log) == list(range(1, 21))


async def test_an_encoder_that_dies_twice_during_a_trial_does_not_lock_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be tried alone as well, and only one thing is at a time."""
    stages = FakeStages()
    stages.denoiser.losses = [(7, LOST), (8, LOST), (8, StageLost("text_encode"))]
    encode = stages.text_encoder.encode

    async def lost_twice(*arguments: Any) -> Opaque:
        if len(stages.text_encoder.texts) == 1:  # when it is asked again
            stages.text_encoder.losses = [StageLost("text_encode")] * 2
        return await encode(*arguments)

    monkeypatch.setattr(stages.text_encoder, "encode", lost_twice)
    log = await run(stages, failover(max_moves=5), **TWENTY)
    assert final(log).pictures[0].data == b"picture 7"


async def test_after_the_last_planned_checkpoint_time_still_brings_some() -> None:
    stages = FakeStages()
    stages.denoiser.losses = [(18, LOST)]
    silent = replace(make_request().preview, every=0)
    moves = replace(failover(), checkpoint_every_s=2.0)
    await run(stages, moves, num_inference_steps=20, preview=silent)
    resumed = stages.denoiser.options[1]
    assert resumed.told == frozenset() and not resumed.one_answer
    stages = FakeStages()
    await run(stages, moves, num_inference_steps=4, preview=silent)
    assert stages.denoiser.options[0].one_answer


async def test_a_text_that_ends_each_encoder_fails_by_itself() -> None:
    stages = FakeStages()
    stages.text_encoder.losses = [StageLost("text_encode")] * 9
    error = failure(await run(stages, failover()))
    assert type(error) is StageFailed and "not tried again" in error.message
    assert len(stages.text_encoder.texts) == 3
    assert stages.denoiser.jobs == []


async def test_a_failure_that_is_no_loss_does_not_move() -> None:
    stages = FakeStages()
    stages.denoiser.errors[3] = StageFailed("denoise", "NaN.")
    assert failure(await run(stages, failover())).message == "NaN."
    assert len(stages.denoiser.jobs) == 1


async def test_the_deadline_counts_over_all_moves() -> None:
    stages = FakeStages()
    stages.denoiser.losses = [(2, LOST)]
    stages.denoiser.hold(3)
    log = EventLog(100)
    flow = stages.flow(deadline_s=0.2, failover=failover())
    await generation.run(make_request(), log, flow, priority=Priority.INTERACTIVE)
    assert isinstance(failure(log), DeadlineExceeded)
    first, second = stages.denoiser.deadlines_s
    assert first is not None and second is not None and 0 < second < first
    assert stages.at_work == 0


async def test_a_move_is_logged_with_its_reason_and_metered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    meter, stages = FakeMeter(), FakeStages()
    stages.denoiser.losses = [(8, STALLED)]
    stages.image_codec.losses = [StageLost("image_decode")]
    await run(stages, failover(), meter, **TWENTY)
    assert meter.of("moved") == [("denoise", "stalled"), ("image_decode", "lost")]
    assert meter.of("resumed") == [7]
    assert [outcome for outcome, _ in meter.of("ended")] == ["done"]
    assert len(meter.of("queued")) == len(meter.of("first_preview")) == 1
    assert set(meter.of("preview")) <= {"decoded", "dropped"} and len(meter.of("preview")) == 19
    assert (
        "moved: denoise stalled at step 7, resumes from step 7 on another replica (move 1 of 2)"
        in caplog.text
    )
    assert "moved: image_decode lost, begins anew on another replica (move 1 of 2)" in caplog.text


async def test_what_the_two_codecs_read_of_a_picture_is_kept_apart() -> None:
    """A session that changes `full_quality` and keeps its picture."""
    stages = FakeStages()
    memory = SessionMemory("s")
    for full_quality in (False, True, False):
        request = make_request(image=looked_at(ORANGE), strength=1.0, full_quality=full_quality)
        log = EventLog(100)
        pictures = InputPixels(np.zeros((128, 128, 3), np.uint8), None)
        await generation.run(
            request,
            log,
            stages.flow(),
            priority=Priority.REALTIME,
            session=memory,
            pictures=pictures,
        )
        final(log)
    images = [image for _, image in stages.denoiser.given]
    assert images == ["image by the TinyVAE", "image", "image by the TinyVAE"]


class Replicas(FakeStage):
    """Denoisers that step their jobs together, and die with all of them at the step of a `killer`.

    One that has died is there again at once. The killer hears of a death before the others or after
    them. As the engine does, a replica steps a job alone where the job asks for it.
    """

    def __init__(self, killer: str, fatal_step: int, count: int, hears_after: int) -> None:
        super().__init__()
        self.deaths: list[int] = []  # the jobs that each death took along
        self._killer = killer
        self._fatal_step = fatal_step
        self._hears_after = hears_after
        self._jobs: list[dict[str, DenoiseOptions]] = [{} for _ in range(count)]
        self._died: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)

    async def denoise(
        self, job: Job, conditioning: Opaque, image: Opaque | None, options: DenoiseOptions
    ) -> AsyncGenerator[StepEvent, None]:
        name = job.id.partition("/")[0]
        replica = min(range(len(self._jobs)), key=lambda number: len(self._jobs[number]))
        jobs, died = self._jobs[replica], self._died[replica]
        jobs[name] = options
        step = 0 if options.resume_from is None else int(options.resume_from)
        try:
            while step < job.num_inference_steps:
                await asyncio.sleep(0)
                if died.is_set():
                    raise StageLost("denoise")
                alone = [each for each, its in jobs.items() if its.alone_until]
                if alone and alone[0] != name:
                    continue
                step += 1
                if name == self._killer and step == self._fatal_step:
                    self.deaths.append(len(jobs))
                    self._jobs[replica], self._died[replica] = {}, asyncio.Event()
                    died.set()
                    for _ in range(self._hears_after):
                        await asyncio.sleep(0)
                    raise StageLost("denoise")
                if step >= options.alone_until:
                    jobs[name] = replace(options, alone_until=0)
                state = str(step).encode() if step in options.emit_state_at else None
                yield StepEvent(step, job.num_inference_steps, state=state, denoise_s=0.0)
            latents = np.full((4, 2, 2), job.seed, np.float32)
            yield StepEvent(step, step, latents=latents, denoise_s=0.0)
        finally:
            jobs.pop(name, None)


class Ingresses:
    """A `TrialBoard` of one of several ingresses, which share the actor."""

    def __init__(self, shared: Shared, name: str, alive: set[str]) -> None:
        self._shared = shared
        self._name = name
        self._alive = alive
        alive.add(name)
        self._told: set[asyncio.Task[None]] = set()

    async def begin_trial(self, stage: str) -> None:
        while not await self._shared.begin_trial(self._name, stage, self._alive):
            pass

    def end_trial(self, stage: str, *, convicted: bool) -> None:
        telling = self._shared.end_trial(self._name, stage, convicted)
        self._told.add(asyncio.create_task(telling))

    async def excuses(self, stage: str, age_s: float) -> bool:
        return await self._shared.excuses(stage, age_s, self._alive)


@pytest.mark.parametrize("hears_after", [0, 50])
@pytest.mark.parametrize("ingresses", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_job_that_ends_each_denoiser_it_is_on_fails_alone(
    count: int, ingresses: int, hears_after: int
) -> None:
    replicas = Replicas("r3", fatal_step=8, count=count, hears_after=hears_after)
    stages, shared, alive = FakeStages(), Shared(), set[str]()
    flows = []
    for number in range(ingresses):
        board = Ingresses(shared, f"ingress {number}", alive) if ingresses > 1 else None
        flow = stages.flow(failover=replace(failover(), trials=Trials(board)))
        flows.append(replace(flow, stages=replace(flow.stages, denoiser=replicas)))
    logs = [EventLog(100) for _ in range(16)]
    silent = replace(make_request().preview, every=0)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number, log in enumerate(logs):
            request = make_request(
                request_id=f"r{number}", seed=number, num_inference_steps=90, preview=silent
            )
            flow = flows[number % ingresses]
            group.create_task(generation.run(request, log, flow, priority=Priority.INTERACTIVE))
    for number, log in enumerate(logs):
        if number == 3:
            assert type(failure(log)) is StageFailed
            assert "not tried again" in failure(log).message
        else:
            assert final(log).pictures[0].data == f"picture {number}".encode()
    # Two deaths in company, and its own.
    assert len(replicas.deaths) == 3
