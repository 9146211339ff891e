"""`glimpse.logs`: lines that say whose they are."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from glimpse import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    logger = logging.getLogger("glimpse")
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers.clear()
    logger.propagate = True  # or pytest adds a handler of its own, where others have configured it
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_a_line_carries_the_request_it_belongs_to(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logger = logging.getLogger("glimpse.some.module")
    logger.info("before")
    with logs.request_id("r1"):
        logger.info("inside %d", 1)
        logger.debug("too fine")
    logger.info("after")
    lines = [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "INFO [-] glimpse.some.module: before",
        "INFO [r1] glimpse.some.module: inside 1",
        "INFO [-] glimpse.some.module: after",
    ]


async def test_tasks_carry_the_id_they_were_started_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO")

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        logging.getLogger("glimpse").info(name)

    tasks = []
    for name in ("a", "b"):
        with logs.request_id(name):
            tasks.append(asyncio.create_task(work(name)))
    await asyncio.wait(tasks)
    written = capsys.readouterr().err
    assert "[a] glimpse: a" in written
    assert "[b] glimpse: b" in written


def test_configuring_twice_writes_once_at_the_newer_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO")
    logs.configure("WARNING")
    logging.getLogger("glimpse").info("fine")
    logging.getLogger("glimpse").warning("coarse")
    written = capsys.readouterr().err
    assert written.count("coarse") == 1
    assert "fine" not in written
