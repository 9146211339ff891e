"""The one thread of a process that calls torch."""

import asyncio
import ctypes
import gc
import logging
import math
import os
import platform
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from glimpse.errors import GlimpseError
from glimpse.watch import Stalled, Watch, phase

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Of glibc's malloc.h, with the largest values it takes: a larger block is always mapped alone.
M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES = -1, 2**31 - 1
M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES = -3, 32 * 2**20


def _synchronize() -> None:
    """Raises what the device has come to since it was last asked, and will raise ever after."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def _end_process() -> None:
    logging.shutdown()
    os._exit(1)


class TorchThread:
    """Runs functions one after another on a thread of its own, loading of weights included.

    With two threads in torch at once, libgomp takes a small machine for oversubscribed and stops
    spinning between parallel regions: a small network's call then takes nearly twice as long.

    `threads` is the number of threads torch may use inside one operation. A function may itself
    have threads in torch that use one each, as `glimpse.families.row_shards` has: they are no team.
    """

    def __init__(
        self,
        threads: int,
        watch: Watch | None = None,
        *,
        probe: Callable[[], object] = _synchronize,
        end_process: Callable[[], object] = _end_process,
    ) -> None:
        """`watch` is told what the thread does; somebody else polls it. `probe` raises where the
        device cannot be used any more; then `end_process` does not come back."""
        self.watch = watch or Watch()
        self._usable = True
        self._probe = probe
        self._end_process = end_process
        self._pending: set[Future[Any]] = set()  # what waits or runs
        self._lane = self.watch.lane(lambda: len(self._pending))
        self._executor = ThreadPoolExecutor(
            1, "torch", initializer=_prepare, initargs=(threads, self.watch)
        )

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Runs a function and waits; for constructors, never on an event loop. Raises
        `TimeoutError` where it takes longer than loading may.

        What is loaded is no garbage: looking for garbage in it takes a sixth of the time of
        loading, and is not needed later either.
        """
        loading_s = self.watch.bounds.loading_s
        gc.disable()
        try:
            loading: Future[T] = self._submit(_load, function, *args)
            wait([loading], None if loading_s == math.inf else loading_s)
            if not loading.done():
                raise TimeoutError(f"loading took longer than {loading_s} s")
            return loading.result()
        finally:
            gc.freeze()
            gc.enable()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Runs a function without holding up the event loop. A call that is cancelled before its
        turn never runs; one that has begun runs to its end, and the next waits for it. Raises
        `Stalled` as `result`.
        """
        return await self.result(self._submit(function, *args))

    async def result(self, future: Future[T]) -> T:
        """The result of a future of this thread. Raises `Stalled` once the thread stands still."""
        loop = asyncio.get_running_loop()
        waiting = asyncio.wrap_future(future)
        given_up = False

        def give_up() -> None:
            nonlocal given_up
            given_up = waiting.cancel()

        def alarm() -> None:
            loop.call_soon_threadsafe(give_up)

        self.watch.alarms.add(alarm)
        try:
            if self.watch.stalled:
                give_up()
            return await waiting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if given_up and (task is None or not task.cancelling()):
                raise Stalled from None
            raise
        finally:
            self.watch.alarms.discard(alarm)

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Runs a function after what waits by now; for any thread, this one included. The function
        deals with its own failures: one that it lets out is logged, and nothing more.
        """
        self._submit(function, *args).add_done_callback(_log_failure)

    def close(self) -> None:
        self._executor.shutdown()
        self.watch.close()

    def _submit(self, function: Callable[..., T], *args: object) -> Future[T]:
        if not self._pending:
            self._lane.moved = True
        future = self._executor.submit(self._infer, function, *args)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def _infer(self, function: Callable[..., T], *args: object) -> T:
        """Without a gradient, and without the counters that one would need."""
        import torch

        try:
            with self.watch.call(function), torch.inference_mode():
                return function(*args)
        except Exception as failure:
            self.check_device(failure)
            raise
        finally:
            self._lane.moved = True

    def check_device(self, failure: Exception) -> None:
        """For whatever catches exceptions on this thread. Some errors of CUDA leave a context in
        which every later call fails: then the process ends, and is replaced at once.
        """
        import torch

        if isinstance(failure, torch.OutOfMemoryError | GlimpseError) or not self._usable:
            return
        try:
            self._probe()
        except Exception:
            self._usable = False
            logger.critical("the device cannot be used any more: this process ends", exc_info=True)
            self._end_process()


def _load(function: Callable[..., T], *args: object) -> T:
    with phase("loading"):
        return function(*args)


def _log_failure(done: Future[object]) -> None:
    if failure := done.exception():
        logger.error("on the torch thread:", exc_info=failure)


def _prepare(threads: int, watch: Watch) -> None:
    import torch

    watch.attach()
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
