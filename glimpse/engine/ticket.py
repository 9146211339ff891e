"""A job from its arrival to its end, and whoever waits for it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from glimpse.engine.batcher import MOST_ROWS, Entry
from glimpse.ports import DenoiseOptions, Job, StepEvent


@dataclass(slots=True, eq=False)
class Ticket:
    """Events are for `loop`, where somebody waits for them. Times are the engine's clock's: `began`
    is of the first step of this run, `kept` of the last checkpoint, or of the beginning.
    """

    key: int
    job: Job
    conditioning: Any
    image: Any
    options: DenoiseOptions
    deadline: float
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[StepEvent | Exception] = field(default_factory=asyncio.Queue)
    told: frozenset[int] = field(init=False)  # steps, but for the last
    resumed_at: int = 0  # steps that another run has made
    began: float = 0.0
    kept: float = 0.0

    def __post_init__(self) -> None:
        self.told = self.options.told

    @property
    def entry(self) -> Entry[int]:
        return Entry(
            self.key,
            rows=MOST_ROWS if self.job.guidance_scale > 1 else 1,
            group=(self.job.width, self.job.height),
            priority=self.options.priority,
            deadline=self.deadline,
            alone=self.options.alone_until > 0,
            owner=self.options.owner,
        )
