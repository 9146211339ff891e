"""Warnings that do not fill the log, however often their cause occurs."""

import asyncio
import logging


class Seldom:
    """Warnings of what a stranger can bring about as often as it likes: the first at once, further
    ones together, once in `every_s`. Needs a running event loop."""

    def __init__(self, logger: logging.Logger, every_s: float = 60.0) -> None:
        self._logger = logger
        self._every_s = every_s
        self._untold = 0
        self._last = ""
        self._waits = False

    def warn(self, message: str) -> None:
        self._untold += 1
        self._last = message
        if not self._waits:
            self._tell()

    def _tell(self) -> None:
        self._waits = self._untold > 0
        if not self._waits:
            return
        times = "" if self._untold == 1 else f" ({self._untold} times in {self._every_s:g} s)"
        self._logger.warning("%s%s", self._last, times)
        self._untold = 0
        asyncio.get_running_loop().call_later(self._every_s, self._tell)
