"""The ports of `glimpse.ports` in memory: stages that do as a test tells them. And a meter that
remembers."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from glimpse.errors import StageLost
from glimpse.failover import Failover
from glimpse.generation import Flow
from glimpse.input_pictures.inspection import InputPicture, inspect
from glimpse.input_pictures.masks import Cells
from glimpse.input_pictures.reading import Pixels
from glimpse.meter import Meter, Outcome, PreviewKind, Unmetered
from glimpse.ports import (
    DenoiseOptions,
    EncodedText,
    Job,
    Latents,
    Opaque,
    Picture,
    Priority,
    RoughPreviews,
    Stages,
    StepEvent,
)
from glimpse.request import GenerationRequest, Offer, PreviewSpec

OFFER = Offer(
    default_width=128,
    default_height=128,
    default_steps=4,
    default_guidance_scale=4.5,
    default_scheduler="euler",
    size_multiple=8,
    max_side=256,
    max_pixels=256 * 256,
    max_input_bytes=1000,
    max_input_pixels=2**20,
)


def make_request(**changes: Any) -> GenerationRequest:
    """A request with every value decided; previews at every step."""
    fields: dict[str, Any] = {
        "request_id": "r1",
        "prompt": "a lighthouse",
        "negative_prompt": None,
        "num_inference_steps": 4,
        "guidance_scale": 4.5,
        "seed": 7,
        "width": 128,
        "height": 128,
        "num_images": 1,
        "scheduler": "euler",
        "preview": PreviewSpec(every=1, format="jpeg", quality=70, size=512),
        "output_format": "png",
        "progress": False,
    }
    return GenerationRequest(**(fields | changes))


def looked_at(data: bytes, field: str = "image_url") -> InputPicture:
    """An encoded picture as the doors hand it on."""
    return inspect(data, field, OFFER.max_input_pixels)


async def until(condition: Callable[[], bool]) -> None:
    """Lets the other tasks run until something holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


class FakeStage:
    """`unreachable` is what a ping raises; a ping waits while `silent`. It has a replica while
    `there` is set."""

    def __init__(self) -> None:
        self.unreachable: Exception | None = None
        self.silent = False
        self.there = _opened()

    async def present(self) -> None:
        await self.there.wait()

    async def ping(self) -> dict[str, Any]:
        if self.unreachable is not None:
            raise self.unreachable
        while self.silent:
            await asyncio.sleep(0.001)
        return {}


class FakeTextEncoder(FakeStage):
    """Works until `gate` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[tuple[str, str | None]] = []
        self.cut = (0, 0)  # tokens of the prompt and of the negative prompt that it does not read
        self.error: Exception | None = None
        self.losses: list[StageLost] = []  # raised by the next calls, one each
        self.open = 0
        self.gate = _opened()

    async def encode(
        self, request_id: str, prompt: str, negative_prompt: str | None
    ) -> EncodedText:
        self.texts.append((prompt, negative_prompt))
        self.open += 1
        try:
            await self.gate.wait()
            if self.losses:
                raise self.losses.pop(0)
            if self.error is not None:
                raise self.error
            return EncodedText("conditioning", *self.cut)
        finally:
            self.open -= 1


class FakeDenoiser(FakeStage):
    """The latents of a job are full of its seed, its estimates of the number of the step; its
    checkpoints name the step that they were taken at."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[int, Exception] = {}  # raised in place of a step
        self.losses: list[tuple[int, StageLost]] = []  # raised in place of a step, one a run
        self.resumed_from: list[int] = []  # the step of the checkpoint of each run; 0: of none
        self.options: list[DenoiseOptions] = []
        self.cancels_itself_at: int | None = None
        self.lost_once: Exception | None = None  # raised at the start of the next job alone
        self.last_step: int | None = None  # after which the stream ends, with nothing made
        self.step_s = 0.0
        self.step_says_s = 0.0  # the time that it says a step took
        self.jobs: list[Job] = []
        self.emit_denoised_at: list[frozenset[int]] = []
        self.priorities: list[Priority] = []
        self.sessions: list[str | None] = []
        self.deadlines_s: list[float | None] = []
        self.given: list[tuple[Opaque, Opaque | None]] = []  # conditioning and image
        self.steps_run = 0
        self.open = 0
        self.cancelled: list[str] = []  # jobs that were closed before their last step
        self._gates: defaultdict[int, asyncio.Event] = defaultdict(_opened)

    def hold(self, step: int) -> asyncio.Event:
        """Jobs stop before this step until the event is set."""
        self._gates[step] = asyncio.Event()
        return self._gates[step]

    async def denoise(
        self,
        job: Job,
        conditioning: Opaque,
        image: Opaque | None,
        options: DenoiseOptions,
    ) -> AsyncGenerator[StepEvent, None]:
        self.jobs.append(job)
        self.emit_denoised_at.append(options.emit_denoised_at)
        self.priorities.append(options.priority)
        self.sessions.append(options.session)
        self.deadlines_s.append(options.deadline_s)
        self.given.append((conditioning, image))
        self.options.append(options)
        self.resumed_from.append(0 if options.resume_from is None else int(options.resume_from))
        if self.lost_once is not None:
            lost, self.lost_once = self.lost_once, None
            raise lost
        steps = job.num_inference_steps
        if image is not None:
            steps = int(steps * job.strength)
        step = self.resumed_from[-1]
        self.open += 1
        try:
            while step != steps and step != self.last_step:
                await self._gates[step + 1].wait()
                await asyncio.sleep(self.step_s)
                if step + 1 == self.cancels_itself_at:
                    raise asyncio.CancelledError
                if step + 1 in self.errors:
                    raise self.errors[step + 1]
                if self.losses and self.losses[0][0] == step + 1:
                    raise self.losses.pop(0)[1]
                step += 1
                self.steps_run += 1
                if step != steps and step not in options.told:
                    continue
                event = StepEvent(
                    step,
                    steps,
                    denoised=_full(step) if step in options.emit_denoised_at else None,
                    state=str(step).encode() if step in options.emit_state_at else None,
                    denoise_s=self.step_says_s * (step - self.resumed_from[-1]),
                )
                if step == steps:
                    event = replace(event, **_made(job, options))
                yield event
        except (GeneratorExit, asyncio.CancelledError):
            if step != steps:
                self.cancelled.append(job.id)
            raise
        finally:
            self.open -= 1


def _made(job: Job, options: DenoiseOptions) -> dict[str, Any]:
    """What the last step of a job has: a picture whose bytes name the seed, or latents."""
    spec = options.picture
    if spec is None:
        return {"latents": _full(job.seed)}
    return {"picture": Picture(f"preview {job.seed}".encode(), f"image/{spec.format}", 128, 128)}


class FakePreviewDecoder(FakeStage):
    """A preview's bytes name the step of its estimate."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.steps: list[int] = []
        self.specs: list[PreviewSpec] = []
        self.encoded: list[Pixels] = []
        self.open = 0
        self.gate = _opened()

    async def decode(self, request_id: str, denoised: Latents, spec: PreviewSpec) -> Picture:
        step = int(denoised[0, 0, 0])
        self.steps.append(step)
        self.specs.append(spec)
        self.open += 1
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            return Picture(f"preview {step}".encode(), f"image/{spec.format}", 128, 128)
        finally:
            self.open -= 1

    async def encode(self, request_id: str, picture: Pixels, mask: Cells | None) -> Opaque:
        self.encoded.append(picture)
        return "image by the TinyVAE"


class FakeImageCodec(FakeStage):
    """A picture's bytes name the seed of its job."""

    def __init__(self) -> None:
        super().__init__()
        self.decode_error: Exception | None = None
        self.losses: list[StageLost] = []  # raised by the next decodings, one each
        self.encode_error: Exception | None = None
        self.encoded: list[Pixels] = []
        self.masks: list[Cells | None] = []
        self.qualities: list[int] = []  # of the pictures decoded
        self.decode_s = 0.0  # that it says each took
        self.open = 0
        self.encoding_gate = _opened()
        self._gates: defaultdict[int, asyncio.Event] = defaultdict(_opened)

    def hold(self, seed: int) -> asyncio.Event:
        """The picture of this seed is not ready until the event is set."""
        self._gates[seed] = asyncio.Event()
        return self._gates[seed]

    async def decode(
        self, request_id: str, latents: Latents, picture_format: str, quality: int
    ) -> Picture:
        self.qualities.append(quality)
        seed = int(latents[0, 0, 0])
        self.open += 1
        try:
            await self._gates[seed].wait()
            if self.losses:
                raise self.losses.pop(0)
            if self.decode_error is not None:
                raise self.decode_error
            data = f"picture {seed}".encode()
            return Picture(data, f"image/{picture_format}", 128, 128, self.decode_s)
        finally:
            self.open -= 1

    async def encode(self, request_id: str, picture: Pixels, mask: Cells | None) -> Opaque:
        self.encoded.append(picture)
        self.masks.append(mask)
        self.open += 1
        try:
            await self.encoding_gate.wait()
            if self.encode_error is not None:
                raise self.encode_error
            return "image"
        finally:
            self.open -= 1


class FakeStages:
    """All of them, by name; `ports` is what the flow takes."""

    def flow(
        self,
        *,
        deadline_s: float = 5,
        rough: RoughPreviews | None = None,
        failover: Failover | None = None,
        meter: Meter | None = None,
    ) -> Flow:
        """Over these stages; without failover, lost work fails."""
        failover = failover or Failover(max_moves=0)
        return Flow(self.ports, deadline_s, rough, failover, meter or Unmetered())

    def __init__(self) -> None:
        self.text_encoder = FakeTextEncoder()
        self.denoiser = FakeDenoiser()
        self.preview_decoder = FakePreviewDecoder()
        self.image_codec = FakeImageCodec()
        self.ports = Stages(
            self.text_encoder, self.denoiser, self.preview_decoder, self.image_codec
        )

    @property
    def at_work(self) -> int:
        """Calls of any stage that have not ended."""
        stages = (self.text_encoder, self.denoiser, self.preview_decoder, self.image_codec)
        return sum(stage.open for stage in stages)


class FakeMeter(Meter):
    """Remembers each call: the name of the method, then its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def of(self, name: str) -> list[Any]:
        """The arguments of each call of a method; of one that takes a single one, that."""
        found = [call[1:] for call in self.calls if call[0] == name]
        return [call[0] if len(call) == 1 else call for call in found]

    def ended(self, outcome: Outcome, seconds: float) -> None:
        self.calls.append(("ended", outcome, seconds))

    def refused(self, reason: str) -> None:
        self.calls.append(("refused", reason))

    def placed(self, seconds: float) -> None:
        self.calls.append(("placed", seconds))

    def moved(self, stage: str, reason: Literal["lost", "stalled"]) -> None:
        self.calls.append(("moved", stage, reason))

    def resumed(self, steps: int) -> None:
        self.calls.append(("resumed", steps))

    def stalled(self, stage: str) -> None:
        self.calls.append(("stalled", stage))

    def preview(self, kind: PreviewKind) -> None:
        self.calls.append(("preview", kind))

    def first_preview(self, seconds: float) -> None:
        self.calls.append(("first_preview", seconds))

    def queued(self, seconds: float) -> None:
        self.calls.append(("queued", seconds))

    def tick(self, seconds: float, rows: int) -> None:
        self.calls.append(("tick", seconds, rows))

    def step(self, seconds: float) -> None:
        self.calls.append(("step", seconds))


def rough_previews(limit_s: float) -> RoughPreviews:
    """Their bytes name the step of the estimate."""

    def decode(denoised: Latents, spec: PreviewSpec) -> Picture:
        step = int(denoised[0, 0, 0])
        return Picture(f"rough {step}".encode(), f"image/{spec.format}", 128, 128)

    return RoughPreviews(decode, limit_s)


def _opened() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def _full(value: float) -> Latents:
    return np.full((4, 2, 2), value, np.float32)
