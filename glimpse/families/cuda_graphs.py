"""Calls of a network recorded as CUDA graphs, one for each shape, and replayed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from cachetools import LRUCache

from glimpse.engine.job import Rows
from glimpse.watch import phase

ROW_COUNTS = (1, 2, 4, 8, 16)
MOST_GRAPHS = 32
WARM_UPS = 3

Call: TypeAlias = Callable[[torch.Tensor, torch.Tensor, Rows], torch.Tensor]
"""Latents [rows, C, h, w], a timestep for each row, conditioning -> prediction, as latents."""
Recorder: TypeAlias = Callable[
    [Callable[[], torch.Tensor]], tuple[torch.Tensor, Callable[[], None]]
]
"""Records a function: where its result will be, and what makes it again."""


def record_cuda_graph(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
    """https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs"""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return result, graph.replay


@dataclass(frozen=True, slots=True)
class _Recorded:
    latents: torch.Tensor
    timesteps: torch.Tensor
    rows: Rows
    result: torch.Tensor
    replay: Callable[[], None]


class CudaGraphs:
    """A `Call` that replays another: the host then starts one graph and not hundreds of kernels.

    Rows are padded up to 1, 2, 4, 8 or 16; a call with more is not recorded. The graphs that were
    used last are kept, each with the memory of its shape.
    """

    def __init__(self, call: Call, record: Recorder = record_cuda_graph) -> None:
        self._call = call
        self._record = record
        self._recorded: LRUCache[tuple[torch.Size, ...], _Recorded] = LRUCache(MOST_GRAPHS)

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        count = len(rows)
        padded = next((most for most in ROW_COUNTS if most >= count), None)
        if padded is None:
            return self._call(latents, timesteps, rows)
        shapes = (torch.Size([padded]), latents.shape[1:], rows.tensors[-1].shape[1:])
        recorded = self._recorded.get(shapes)
        if recorded is None:
            recorded = self._recorded[shapes] = self._recording(latents, timesteps, rows, padded)
        for place, value in (
            (recorded.latents, latents),
            (recorded.timesteps, timesteps),
            *zip(recorded.rows.tensors, rows.tensors, strict=True),
        ):
            place[:count].copy_(value, non_blocking=True)
        recorded.replay()
        return recorded.result[:count].clone()

    def _recording(
        self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows, padded: int
    ) -> _Recorded:
        def room(like: torch.Tensor) -> torch.Tensor:
            return torch.zeros(padded, *like.shape[1:], dtype=like.dtype, device=latents.device)

        inputs = room(latents), room(timesteps)
        conditioning = Rows(tuple(room(tensor) for tensor in rows.tensors))
        with phase("recording"):
            result, replay = self._record(lambda: self._call(*inputs, conditioning))
        return _Recorded(*inputs, conditioning, result, replay)
