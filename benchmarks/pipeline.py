"""What the service is compared with: the unchanged diffusers pipeline, in its own process."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from config.settings import ModelSettings

THREADS_TRIED_WITH = 4  # pictures for each number of threads


@dataclass(frozen=True, slots=True)
class Wanted:
    prompt: str
    seed: int


class Pipeline:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.threads: int = connection.recv()

    def picture(self, wanted: Wanted) -> tuple[float, Image.Image]:
        """The picture, and the seconds it took."""
        self._connection.send(wanted)
        seconds, pixels = self._connection.recv()
        return seconds, Image.fromarray(pixels)


@contextmanager
def running(model: ModelSettings, niceness: int) -> Iterator[Pipeline]:
    """The pipeline, warm, with the number of threads it is fastest with.

    `niceness` is that of what it is compared with, so that other work on the machine takes from
    both alike.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share this process's threads
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, model, niceness))
    process.start()
    try:
        yield Pipeline(ours)
    finally:
        ours.send(None)
        process.join()


def _run(connection: Connection, model: ModelSettings, niceness: int) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, niceness)
    import torch
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(
        model.resolve(model.path), dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)

    def picture(wanted: Wanted) -> tuple[float, NDArray[Any]]:
        began = time.perf_counter()
        image = pipeline(
            wanted.prompt,
            num_inference_steps=model.num_inference_steps,
            guidance_scale=model.guidance_scale,
            width=model.width,
            height=model.height,
            generator=torch.Generator("cpu").manual_seed(wanted.seed),
        ).images[0]
        return time.perf_counter() - began, np.asarray(image)

    def seconds_with(threads: int) -> float:
        torch.set_num_threads(threads)
        picture(Wanted("warm up", 0))
        return statistics.median(
            picture(Wanted("warm up", seed))[0] for seed in range(THREADS_TRIED_WITH)
        )

    best = min(range(1, multiprocessing.cpu_count() + 1), key=seconds_with)
    torch.set_num_threads(best)
    connection.send(best)
    while (wanted := connection.recv()) is not None:
        connection.send(picture(wanted))
