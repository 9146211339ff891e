"""The denoising of one picture, on whichever replicas it takes."""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from glimpse.errors import StageFailed, StageLost
from glimpse.failover import Failover, Moves
from glimpse.meter import Meter
from glimpse.ports import DenoiseOptions, Denoiser, EncodedText, Job, Opaque, StepEvent

logger = logging.getLogger(__name__)

ENCODING = ("text_encode", "image_encode")
TO_THE_END = 2**31  # later than any step


@dataclass(frozen=True, slots=True)
class Encoded:
    """The inputs of a job, from the encoders; `text_s`: seconds that the text took."""

    text: EncodedText
    image: Opaque | None
    text_s: float


@dataclass(frozen=True, slots=True)
class Denoised:
    """The event of the last step, and the seconds of all steps, those made twice counted once."""

    last: StepEvent
    denoise_s: float


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    state: bytes | None = None
    step: int = 0
    denoise_s: float = 0.0


class PictureJob:
    """Keeps the newest checkpoint of a job. When the replica is lost, the job goes on from there on
    another one; steps that were told of before are not told of again.
    """

    def __init__(
        self,
        job: Job,
        options: DenoiseOptions,
        denoiser: Denoiser,
        failover: Failover,
        meter: Meter,
        *,
        deadline: float,
        encode: Callable[[], Awaitable[Encoded]],
        told: Callable[[StepEvent], None],
    ) -> None:
        """`deadline` is monotonic; `encode` makes the inputs again, should they be lost as well."""
        self._job = job
        self._options = options
        self._denoiser = denoiser
        self._failover = failover
        self._meter = meter
        self._deadline = deadline
        self._encode = encode
        self._tell = told
        self._told = 0  # the last step that was
        self._checkpoint = _Checkpoint()

    async def run(self, encoded: Encoded) -> Denoised:
        """Raises what ends the job."""
        moves = Moves("denoise", self._failover, self._meter, self._resumes)
        inputs_lost = 0
        while True:
            gone = False
            async with moves:
                try:
                    return await self._attempt(encoded, moves)
                except StageLost as lost:
                    if lost.stage not in ENCODING or inputs_lost >= self._failover.max_moves:
                        raise
                    # The denoiser could not take what was encoded: its node is gone.
                    gone = True
                    inputs_lost += 1
                    logger.warning("%s; encoding again", lost.message)
            if gone:
                encoded = await self._encode()

    async def _attempt(self, encoded: Encoded, moves: Moves) -> Denoised:
        checkpoint, options = self._checkpoint, self._options
        if checkpoint.state is not None:
            self._meter.resumed(checkpoint.step)
        alone_until = self._next_told(self._next_told(self._told)) if moves.on_trial else 0
        options = replace(
            options,
            deadline_s=self._deadline - time.monotonic(),
            emit_at=_after(self._told, options.emit_at),
            emit_denoised_at=_after(self._told, options.emit_denoised_at),
            emit_state_at=_after(checkpoint.step, options.emit_state_at),
            resume_from=checkpoint.state,
            alone_until=alone_until,
        )
        event = None
        conditioning = encoded.text.conditioning
        steps = self._denoiser.denoise(self._job, conditioning, encoded.image, options)
        async with aclosing(steps):
            async for event in steps:
                if event.step >= alone_until:
                    moves.passed()
                self._take(event, checkpoint.denoise_s)
        if event is None or (event.latents is None and event.picture is None):
            raise StageFailed("denoise", "The denoiser stopped before the last step; try again.")
        return Denoised(event, checkpoint.denoise_s + (event.denoise_s or 0.0))

    def _next_told(self, step: int) -> int:
        """The next step with an event. The replica may have been lost in it, or before, and the
        events just before that with the replica: so a trial goes to the one after it."""
        return min((each for each in self._options.told if each > step), default=TO_THE_END)

    def _take(self, event: StepEvent, before_s: float) -> None:
        """`before_s`: the seconds of the steps before the one that this run began with."""
        if event.state is not None:
            denoise_s = before_s + (event.denoise_s or 0.0)
            self._checkpoint = _Checkpoint(event.state, event.step, denoise_s)
        if event.step > self._told:
            self._told = event.step
            self._tell(event)

    def _resumes(self) -> str:
        return f" at step {self._told}, resumes from step {self._checkpoint.step}"


def _after(step: int, steps: frozenset[int]) -> frozenset[int]:
    return frozenset(each for each in steps if each > step)
