"""How many rows a call of the network may have."""

from collections.abc import Callable
from functools import partial

import torch

from glimpse.engine.batcher import MOST_ROWS

MOST = 32
"""More hardly make a device do more in a second, and each picture waits longer for its steps."""
SHARE = 0.8
"""Of the free memory: the rest is for latents, and for what the allocator cannot use."""
FEW, MORE = 2, 8


def probe(call: Callable[[int], object], device: torch.device) -> int:
    """The budget for a device: `call` runs the network with so many rows of the largest size.

    On a CPU memory is not what is scarce. A GPU may turn out to have less later on: the engine
    then halves the budget.
    """
    if device.type != "cuda":
        return MOST
    try:
        few, more = (_peak(partial(call, rows), device) for rows in (FEW, MORE))
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return MOST_ROWS
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return rows_that_fit(free, few, more)


def rows_that_fit(free: int, few: int, more: int) -> int:
    """From free bytes and the bytes of calls with 2 and 8 rows: a straight line through both."""
    a_row = max((more - few) / (MORE - FEW), 1.0)
    fixed = few - FEW * a_row
    return max(MOST_ROWS, min(MOST, int((SHARE * free - fixed) / a_row)))


def _peak(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes beside those of before."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
