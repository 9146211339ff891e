"""The meter over Serve's metrics, which Ray hands to Prometheus (docs/operating.md).

Ray adds values up in the process and exports the sums every ten seconds. Recording one value in Ray
takes up to 15 µs in a replica, and a realtime message brings a dozen. So a call only queues its
value, and a thread records the queue once a second, while no client waits for it.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ray.serve import metrics

from glimpse.meter import Outcome, PreviewKind

logger = logging.getLogger("glimpse.meter")

RECORD_EVERY_S = 1.0

STAGES = ("text_encode", "image_encode", "denoise", "preview_decode", "image_decode")
# Ray keeps counts per bucket alone and takes the middle of a bucket for all that is in it.
SHORT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
LONG_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A counter, or a histogram where there are `boundaries`. `labels` has the values of each; none
    where they are not known beforehand."""

    name: str
    description: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    boundaries: tuple[float, ...] = ()


GENERATIONS = Series(
    "glimpse_generations",
    "Generations that have ended.",
    labels={"outcome": get_args(Outcome)},
)
GENERATION_SECONDS = Series(
    "glimpse_generation_seconds",
    "Time from the acceptance of a generation to its final picture. Of those that were done.",
    boundaries=LONG_S,
)
REFUSALS = Series(
    "glimpse_refusals",
    "Requests, sessions and realtime messages that were refused, by the code of the error.",
    labels={"reason": ()},
)
PLACE_SECONDS = Series(
    "glimpse_place_seconds",
    "Time that a request or a session waited for its place, those refused not included.",
    boundaries=LONG_S,
)
MOVES = Series(
    "glimpse_moves",
    "Times that work for a generation went to another replica of a stage.",
    labels={"stage": STAGES, "reason": ("lost", "stalled")},
)
RESUMED_STEPS = Series(
    "glimpse_resumed_steps",
    "Steps that were not made again, because a job went on from a checkpoint.",
)
STALLS = Series(
    "glimpse_stalls",
    "Times that a replica was found to stand still.",
    labels={"stage": STAGES},
)
PREVIEWS = Series(
    "glimpse_previews",
    "Previews, by what became of them: decoded and rough ones were told to the client.",
    labels={"kind": get_args(PreviewKind)},
)
FIRST_PREVIEW_SECONDS = Series(
    "glimpse_first_preview_seconds",
    "Time from the acceptance of a generation to its first preview.",
    boundaries=LONG_S,
)
QUEUE_SECONDS = Series(
    "glimpse_queue_seconds",
    "Time that a picture waited for a denoiser to begin it.",
    boundaries=LONG_S,
)
TICK_SECONDS = Series(
    "glimpse_tick_seconds",
    "Time of one tick of an engine: one step of every job that takes part.",
    boundaries=SHORT_S,
)
TICK_ROWS = Series(
    "glimpse_tick_rows",
    "Rows in one call of the network. A picture with guidance takes two.",
    boundaries=ROWS,
)
STEP_SECONDS = Series(
    "glimpse_step_seconds",
    "Average time of a step of one job, observed when the job ends.",
    boundaries=SHORT_S,
)
SERIES = (
    GENERATIONS,
    GENERATION_SECONDS,
    REFUSALS,
    PLACE_SECONDS,
    MOVES,
    RESUMED_STEPS,
    STALLS,
    PREVIEWS,
    FIRST_PREVIEW_SECONDS,
    QUEUE_SECONDS,
    TICK_SECONDS,
    TICK_ROWS,
    STEP_SECONDS,
)


class ServeMeter:
    """A `Meter`. `backend` has the classes `Counter` and `Histogram`.

    Calls may come from any thread; one thread alone records, by `record`.
    """

    def __init__(self, backend: Any = metrics) -> None:
        self._made = {series: _made(series, backend) for series in SERIES}
        self._queue: deque[tuple[Series, float, dict[str, str]]] = deque()
        self._failed: set[Series] = set()

    def start(self) -> None:
        """Records on a thread of its own, for as long as the process runs."""
        threading.Thread(target=self._record_on, name="meter", daemon=True).start()

    def _record_on(self) -> None:
        while True:
            time.sleep(RECORD_EVERY_S)
            self.record()

    def record(self) -> None:
        """Hands all that is queued to `backend`."""
        while self._queue:
            series, value, labels = self._queue.popleft()
            try:
                if series.boundaries:
                    self._made[series].observe(value)
                else:
                    self._made[series].inc(value, labels)
            except Exception:
                self._tell_once(series)

    def start_at_zero(self) -> None:
        """Has counters exported before their first event: Prometheus' `increase` does not see the
        event that a series begins with, which would be the only one of its kind."""
        for series in SERIES:
            if not series.boundaries:
                for values in itertools.product(*series.labels.values()):
                    # Not public; `inc` takes no zero.
                    self._made[series]._record(0.0, dict(zip(series.labels, values, strict=True)))

    def ended(self, outcome: Outcome, seconds: float) -> None:
        self._count(GENERATIONS, outcome=outcome)
        if outcome == "done":
            self._observe(GENERATION_SECONDS, seconds)

    def refused(self, reason: str) -> None:
        self._count(REFUSALS, reason=reason)

    def placed(self, seconds: float) -> None:
        self._observe(PLACE_SECONDS, seconds)

    def moved(self, stage: str, reason: Literal["lost", "stalled"]) -> None:
        self._count(MOVES, stage=stage, reason=reason)

    def resumed(self, steps: int) -> None:
        if steps:
            self._count(RESUMED_STEPS, steps)

    def stalled(self, stage: str) -> None:
        self._count(STALLS, stage=stage)

    def preview(self, kind: PreviewKind) -> None:
        self._count(PREVIEWS, kind=kind)

    def first_preview(self, seconds: float) -> None:
        self._observe(FIRST_PREVIEW_SECONDS, seconds)

    def queued(self, seconds: float) -> None:
        self._observe(QUEUE_SECONDS, seconds)

    def tick(self, seconds: float, rows: int) -> None:
        self._observe(TICK_SECONDS, seconds)
        self._observe(TICK_ROWS, rows)

    def step(self, seconds: float) -> None:
        self._observe(STEP_SECONDS, seconds)

    def _count(self, series: Series, by: int = 1, **labels: str) -> None:
        self._queue.append((series, by, labels))

    def _observe(self, series: Series, value: float) -> None:
        self._queue.append((series, value, {}))

    def _tell_once(self, series: Series) -> None:
        """Nobody's picture fails because it could not be counted."""
        if series not in self._failed:
            self._failed.add(series)
            logger.exception("%s is not counted; further failures are not logged", series.name)


def _made(series: Series, backend: Any) -> Any:
    keys = tuple(series.labels)
    if series.boundaries:
        return backend.Histogram(series.name, series.description, list(series.boundaries), keys)
    return backend.Counter(series.name, series.description, keys)
