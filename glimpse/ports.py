"""What the flow talks to: the stages, as Protocols. Bound to Ray handles or to direct calls."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glimpse.input_pictures.masks import Cells
from glimpse.input_pictures.reading import Pixels
from glimpse.request import PreviewSpec

Latents = NDArray[np.float32]
"""Latents of one picture, shape [channels, height / factor, width / factor]."""


class Priority(IntEnum):
    """Who goes first when jobs wait. Lower is sooner."""

    REALTIME = 0
    INTERACTIVE = 1
    BACKGROUND = 2


@dataclass(frozen=True, slots=True, eq=False)
class InputPixels:
    """What was read of an input picture, at the job's size, and of its mask, if any."""

    pixels: Pixels
    cells: Cells | None


Opaque: TypeAlias = Any
"""A stage's result that the flow hands on and never looks into: between processes it is a
reference, and the value goes from stage to stage directly."""


@dataclass(frozen=True, slots=True)
class Job:
    """A generation as the denoiser sees it. One picture; sizes in pixels."""

    id: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    scheduler: str
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseOptions:
    """How a job is run; none of it changes the picture.

    Steps (counted from 1) that produce an event: `emit_at` without data, `emit_denoised_at` with
    the denoised estimate, `emit_state_at` with a checkpoint. The last step always produces an
    event. A step that ends `emit_state_every_s` seconds after the last checkpoint has one, too.
    `resume_from` is a `state` of an earlier run of the same job. `deadline_s` is what is left, in
    seconds. Jobs of one `session` go to the same replica, for as long as there is that one. With
    `picture` the last step has the picture, made by the TinyVAE, in place of latents. Up to the
    step `alone_until` no other job is stepped beside this one. Each `owner` is stepped as often as
    any other one of the same priority, however many jobs it has.
    """

    priority: Priority
    deadline_s: float | None
    emit_at: frozenset[int] = frozenset()
    emit_denoised_at: frozenset[int] = frozenset()
    emit_state_at: frozenset[int] = frozenset()
    emit_state_every_s: float | None = None
    resume_from: bytes | None = None
    session: str | None = None
    owner: str = ""
    picture: PreviewSpec | None = None
    alone_until: int = 0

    @property
    def one_answer(self) -> bool:
        """Whether the last step alone produces an event."""
        return not self.told and self.emit_state_every_s is None

    @property
    def told(self) -> frozenset[int]:
        """Every step that is told of, but for the last."""
        return self.emit_at | self.emit_denoised_at | self.emit_state_at


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One step of one job is done. `step` counts from 1 to `steps`, the steps that are run.

    `denoised` is the clean estimate x0, there only where it was asked for; `state` a checkpoint,
    likewise. The last step has `latents`, or the `picture`. `denoise_s`: seconds since the first
    step of this run of the job began.
    """

    step: int
    steps: int
    denoised: Latents | None = None
    state: bytes | None = None
    latents: Latents | None = None
    picture: "Picture | None" = None
    denoise_s: float | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture: JPEG, PNG or WebP bytes. `decode_s`: seconds that it took to make it of
    latents, the work alone."""

    data: bytes
    content_type: str
    width: int
    height: int
    decode_s: float = field(default=0.0, compare=False)


class Stage(Protocol):
    async def ping(self) -> dict[str, Any]:
        """Answers once the stage can work, with its counters."""
        ...

    async def present(self) -> None:
        """Returns once there is a replica that takes work; mostly at once."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedText:
    """The `conditioning` of a job. The encoders have a limit of tokens: `prompt_cut` and
    `negative_prompt_cut` count those at the end of each text that they did not read."""

    conditioning: Opaque
    prompt_cut: int = 0
    negative_prompt_cut: int = 0


class TextEncoder(Stage, Protocol):
    async def encode(
        self, request_id: str, prompt: str, negative_prompt: str | None
    ) -> EncodedText: ...


class Denoiser(Stage, Protocol):
    """`denoise` raises `StageLost` where its replica died, `StageStalled` where it stands still."""

    def denoise(
        self,
        job: Job,
        conditioning: Opaque,
        image: Opaque | None,
        options: DenoiseOptions,
    ) -> AsyncGenerator[StepEvent, None]:
        """Runs a job; closing the generator cancels it before its next step. `image` is the encoded
        input picture of image to image, or of inpainting.
        """
        ...


class PreviewDecoder(Stage, Protocol):
    """The TinyVAE."""

    async def decode(self, request_id: str, denoised: Latents, spec: PreviewSpec) -> Picture: ...

    async def encode(self, request_id: str, picture: Pixels, mask: Cells | None) -> Opaque:
        """As `ImageCodec.encode`, where speed counts more than sharpness."""
        ...


class ImageCodec(Stage, Protocol):
    async def decode(
        self, request_id: str, latents: Latents, picture_format: str, quality: int
    ) -> Picture:
        """The finished picture; `quality`, 0 to 100, is of JPEG and WebP."""
        ...

    async def encode(self, request_id: str, picture: Pixels, mask: Cells | None) -> Opaque:
        """The `image` of a job: of a picture at the job's size, and for inpainting the mask of its
        latents."""
        ...


@dataclass(frozen=True, slots=True)
class Stages:
    """All the stages of one application."""

    text_encoder: TextEncoder
    denoiser: Denoiser
    preview_decoder: PreviewDecoder
    image_codec: ImageCodec


@dataclass(frozen=True, slots=True)
class RoughPreviews:
    """What a client is shown in place of a preview whose stage is late, full or gone.

    It is late after `limit_s` seconds. `decode` takes an estimate [C, h, w], needs no stage, is
    called on a thread and takes some milliseconds.
    """

    decode: Callable[[Latents, PreviewSpec], Picture]
    limit_s: float
