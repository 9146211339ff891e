"""A job from its arrival to its end, and whoever waits for it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from glimpse.engine.batcher import MOST_ROWS, Entry
from glimpse.ports import DenoiseOptions, Job, StepEvent


@dataclass(slots=True, eq=False)
class Ticket:
    """Events are for `loop`, where somebody waits for them. Times are the engine's clock's; `began`
    is when the first step of this run began.
    """

    key: int
    job: Job
    conditioning: Any
    image: Any
    options: DenoiseOptions
    deadline: float
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[StepEvent | Exception] = field(default_factory=asyncio.Queue)
    began: float = 0.0

    @property
    def entry(self) -> Entry[int]:
        return Entry(
            self.key,
            rows=MOST_ROWS if self.job.guidance_scale > 1 else 1,
            group=(self.job.width, self.job.height),
            priority=self.options.priority,
            deadline=self.deadline,
        )
