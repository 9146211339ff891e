"""One call of a network on a CPU, its rows shared out among threads."""

from concurrent.futures import ThreadPoolExecutor, wait

import torch

from glimpse.engine.job import Rows
from glimpse.families.cuda_graphs import Call

ROWS_WORTH_A_THREAD = 2
"""So that the two rows of one picture stay together: cut apart, they would not be the pipeline's to
the bit."""


class RowShards:
    """A `Call` whose rows are cut into as many parts as torch has threads, one part for each.

    Torch by itself shares out each operation, and its threads wait for the slowest of them hundreds
    of times a call: where the machine has other work as well, whenever one is put aside it holds up
    all. Threads that have rows of their own wait for each other once.

    A call with few rows is made as it is. A part is made by one thread alone: two teams of threads
    in one process would slow each other down (`glimpse.torch_thread`).
    """

    def __init__(self, call: Call, threads: int) -> None:
        self._call = call
        self._threads = threads
        self._others = ThreadPoolExecutor(threads - 1, "rows", initializer=_use_one_thread)

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        if len(rows) < ROWS_WORTH_A_THREAD * self._threads:
            return self._call(latents, timesteps, rows)
        first, *others = zip(
            latents.tensor_split(self._threads),
            timesteps.tensor_split(self._threads),
            rows.split(self._threads),
            strict=True,
        )
        parts = [self._others.submit(self._infer, *part) for part in others]
        torch.set_num_threads(1)
        try:
            mine = self._call(*first)
        finally:
            torch.set_num_threads(self._threads)
            wait(parts)  # after a failure, too: nobody else may be in torch when this is left
        return torch.cat([mine, *(part.result() for part in parts)])

    def _infer(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        with torch.inference_mode():
            return self._call(latents, timesteps, rows)


def _use_one_thread() -> None:
    # When a thread first asks for it, torch gives it the number that was set last, by whomever.
    torch.get_num_threads()
    torch.set_num_threads(1)
