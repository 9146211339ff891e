"""The one thread of a process that calls torch."""

import asyncio
import ctypes
import gc
import logging
import platform
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Of glibc's malloc.h, with the largest values it takes: a larger block is always mapped alone.
M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES = -1, 2**31 - 1
M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES = -3, 32 * 2**20


class TorchThread:
    """Runs functions one after another on a thread of its own, loading of weights included.

    With two threads in torch at once, libgomp takes a small machine for oversubscribed and stops
    spinning between parallel regions: a small network's call then takes nearly twice as long.

    `threads` is the number of threads torch may use inside one operation. A function may itself
    have threads in torch that use one each, as `glimpse.families.row_shards` has: they are no team.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(1, "torch", initializer=_prepare, initargs=(threads,))

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Runs a function and waits; for constructors, never on an event loop.

        What is loaded is no garbage: looking for garbage in it takes a sixth of the time of
        loading, and is not needed later either.
        """
        gc.disable()
        try:
            return self._executor.submit(_infer, function, *args).result()
        finally:
            gc.freeze()
            gc.enable()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Runs a function without holding up the event loop. A call that is cancelled before its
        turn never runs; one that has begun runs to its end, and the next waits for it.
        """
        return await asyncio.wrap_future(self._executor.submit(_infer, function, *args))

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Runs a function after what waits by now; for any thread, this one included. The function
        deals with its own failures: one that it lets out is logged, and nothing more.
        """
        self._executor.submit(_infer, function, *args).add_done_callback(_log_failure)

    def close(self) -> None:
        self._executor.shutdown()


def _log_failure(done: Future[object]) -> None:
    if failure := done.exception():
        logger.error("on the torch thread:", exc_info=failure)


def _prepare(threads: int) -> None:
    import torch

    keep_freed_memory()
    torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """For this process: what one call of a network frees is there for the next.

    glibc by itself gives much of it back to the system after each call, which then has to map it
    page by page again: thousands of page faults a call, a tenth of a small network's time. What a
    process takes at most does not change; it only keeps it.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def _infer(function: Callable[..., T], *args: object) -> T:
    """Without a gradient, and without the counters that one would need."""
    import torch

    with torch.inference_mode():
        return function(*args)
