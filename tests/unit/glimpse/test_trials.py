"""`glimpse.trials`: what a board is told of the trials of one ingress."""

import asyncio

from glimpse.trials import TrialRecord, Trials
from tests.fakes import until


class Board:
    """Told in tasks, as other processes are."""

    def __init__(self) -> None:
        self.record = TrialRecord()
        self._telling: set[asyncio.Task[None]] = set()

    async def begin_trial(self, stage: str) -> None:
        self.record.begin("a", stage)

    def end_trial(self, stage: str, *, convicted: bool) -> None:
        self._telling.add(asyncio.create_task(self._tell(stage, convicted)))

    async def _tell(self, stage: str, convicted: bool) -> None:
        self.record.end("a", stage, convicted=convicted)

    async def excuses(self, stage: str, age_s: float) -> bool:
        return self.record.excuses(stage, age_s)


async def test_the_end_of_a_trial_is_told_before_the_next_one_begins() -> None:
    board = Board()
    trials = Trials(board)
    await trials.begin("denoise")
    following = asyncio.create_task(trials.begin("denoise"))
    await asyncio.sleep(0)
    trials.end("denoise", convicted=False)
    await following
    assert board.record.holder == "a"
    trials.end("denoise", convicted=False)
    await until(lambda: board.record.holder is None)
