"""Rendered data sets on disk: one .npy of pixels each, drawn again from its name alone."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from training.renderer import Pixels, render
from training.scenes import COMBINATIONS, HELD_OUT, SEEN, Combination, Scene, balanced_scenes

_CHUNK = 250


@dataclass(frozen=True, slots=True)
class DataSet:
    """A list of scenes and the pictures of them; the name seeds both."""

    name: str
    combinations: tuple[Combination, ...]
    count: int
    size: tuple[int, int] = (128, 128)

    @property
    def scenes(self) -> list[Scene]:
        return balanced_scenes(self.combinations, self.count, random.Random(crc32(self._key(""))))

    def seed(self, index: int) -> int:
        return crc32(self._key(str(index)))

    def _key(self, part: str) -> bytes:
        return f"{self.name}/{part}".encode()


# Only the judge ever learns from held-out combinations.
TRAIN = DataSet("train", SEEN, 40_000)
WIDE = DataSet("wide", SEEN, 1_200, (192, 128))
TALL = DataSet("tall", SEEN, 1_200, (128, 192))
VALIDATION = DataSet("validation", SEEN, 512)
UNSEEN = DataSet("unseen", HELD_OUT, 200)
JUDGE_TRAIN = DataSet("judge-train", COMBINATIONS, 24_000)
JUDGE_VALIDATION = DataSet("judge-validation", COMBINATIONS, 1_480)
ALL = (VALIDATION, UNSEEN, TRAIN, JUDGE_VALIDATION, JUDGE_TRAIN, WIDE, TALL)


def render_to(data: DataSet, folder: Path, workers: int, limit: int | None = None) -> None:
    """Draw the data set, or its first `limit` pictures, into `folder`, unless it is there."""
    path = folder / f"{data.name}.npy"
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{data.name}.partial.npy"
    scenes = data.scenes[:limit]
    shape = (len(scenes), data.size[1], data.size[0], 3)
    pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    chunks = [(data, scenes[i : i + _CHUNK], i) for i in range(0, len(scenes), _CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        for (_, _, start), chunk in zip(chunks, pool.map(_render_chunk, chunks), strict=True):
            pixels[start : start + len(chunk)] = chunk
    pixels.flush()
    partial.rename(path)


def load_pixels(data: DataSet, folder: Path) -> Pixels:
    """The pictures, (count, height, width, 3), mapped from disk."""
    pixels: Pixels = np.load(folder / f"{data.name}.npy", mmap_mode="r")
    return pixels


def _render_chunk(chunk: tuple[DataSet, list[Scene], int]) -> Pixels:
    data, scenes, start = chunk
    pictures = [render(s, data.seed(start + i), data.size) for i, s in enumerate(scenes)]
    return np.stack(pictures)
