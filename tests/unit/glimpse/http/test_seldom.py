"""`glimpse.http.seldom`: the first warning at once, further ones together."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from glimpse.http.seldom import Seldom


async def test_what_anybody_can_bring_about_is_told_together(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    due: list[Callable[[], None]] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda s, call: due.append(call))
    seldom = Seldom(logging.getLogger("glimpse.http.some"), every_s=30)
    for number in range(1000):
        seldom.warn(f"failed, from {number}")
    assert caplog.messages == ["failed, from 0"]
    [pass_time] = due
    pass_time()
    assert caplog.messages[1:] == ["failed, from 999 (999 times in 30 s)"]
    seldom.warn("failed again")
    due[1]()
    assert caplog.messages[2:] == ["failed again"]
    due[2]()
    seldom.warn("much later")
    assert caplog.messages[3:] == ["much later"]
