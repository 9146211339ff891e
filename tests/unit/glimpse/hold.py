"""Makes what is asked of a torch thread wait."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from glimpse.torch_thread import TorchThread


@asynccontextmanager
async def held(thread: TorchThread) -> AsyncIterator[None]:
    """The thread does nothing until the block ends, and the tasks made in it have begun to wait,
    with the tasks that they make."""
    go_on = threading.Event()
    thread.post(go_on.wait, 5)
    try:
        yield
        for _ in range(3):  # a turn of the loop begins what the turn before made
            await asyncio.sleep(0)
    finally:
        go_on.set()
