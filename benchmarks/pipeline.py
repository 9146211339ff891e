"""What the service is compared with: the unchanged diffusers pipeline, in its own process."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.processes import peak_memory, working
from benchmarks.samples import Summary, summary
from benchmarks.task import PREVIEW_EVERY, Task, Wanted, wanted

THREADS_TRIED_WITH = 4  # pictures for each number of threads


@dataclass(frozen=True, slots=True)
class Made:
    """A picture, as pixels, and the seconds until it and its first preview were there."""

    pixels: NDArray[Any]
    seconds: float
    first_preview_s: float | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture after another, in seconds."""

    threads: int
    without_previews: Summary
    with_previews: Summary
    first_preview: Summary
    peak_pss: int


class Pipeline:
    def __init__(self, connection: Connection, process: psutil.Process) -> None:
        self._connection = connection
        self.process = process
        self.threads: int = connection.recv()

    def picture(self, wanted: Wanted) -> Made:
        self._connection.send(wanted)
        made: Made = self._connection.recv()
        return made


def measure(pipeline: Pipeline, task: Task, pictures: int) -> Figure:
    """With and without previews in the step callback, in turns."""
    plain, previewed = [], []
    with peak_memory(pipeline.process) as peak:
        for index in range(pictures):
            plain.append(pipeline.picture(wanted(task, index, 0)))
            previewed.append(pipeline.picture(wanted(task, index, PREVIEW_EVERY)))
    first_previews = [made.first_preview_s for made in previewed]
    return Figure(
        threads=pipeline.threads,
        without_previews=summary([made.seconds for made in plain]),
        with_previews=summary([made.seconds for made in previewed]),
        first_preview=summary([each for each in first_previews if each is not None]),
        peak_pss=peak.pss,
    )


@contextmanager
def running(task: Task, niceness: int) -> Iterator[Pipeline]:
    """The pipeline, warm, with the number of threads it is fastest with."""
    with working(_run, task, niceness=niceness) as (connection, process):
        yield Pipeline(connection, process)


def _run(connection: Connection, task: Task) -> None:
    import torch

    from benchmarks.peers.previewing import PreviewingPipeline

    pipeline = PreviewingPipeline(task)

    def picture(wanted: Wanted) -> Made:
        shown_after: list[float] = []
        began = time.perf_counter()
        image = pipeline.picture(wanted, lambda *_: shown_after.append(time.perf_counter() - began))
        seconds = time.perf_counter() - began
        return Made(np.asarray(image), seconds, shown_after[0] if shown_after else None)

    def seconds_with(threads: int) -> float:
        torch.set_num_threads(threads)
        picture(wanted(task, 0, PREVIEW_EVERY))  # first calls are slow
        return statistics.median(
            picture(wanted(task, index, 0)).seconds for index in range(THREADS_TRIED_WITH)
        )

    best = min(range(1, multiprocessing.cpu_count() + 1), key=seconds_with)
    torch.set_num_threads(best)
    connection.send(best)
    while (asked := connection.recv()) is not None:
        connection.send(picture(asked))
