"""Data-parallel training in single-threaded processes: on shared cores better than threads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from training.loop import device


def default_ranks(cores: int) -> int:
    """One process per core, or a single one that drives the GPU."""
    return 1 if device().type == "cuda" else max(1, cores)


def launch(work: Callable[[int, int, Path], None], ranks: int, work_dir: Path) -> None:
    """Run work(rank, ranks, work_dir) in every rank, and wait."""
    if ranks == 1:
        torch.set_num_threads(1)
        work(0, 1, work_dir)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments = (work, ranks, work_dir, f"file://{folder}/store")
        spawn(_enter, arguments, nprocs=ranks)  # type: ignore[no-untyped-call]


def run_beside(works: Sequence[Callable[[], None]], ranks: int) -> None:
    """Run works that need nothing of one another, each in a process of its own if `ranks` > 1."""
    if ranks == 1:
        for work in works:
            work()
    elif works:
        spawn(_enter_beside, (works,), nprocs=len(works))  # type: ignore[no-untyped-call]


def _enter_beside(index: int, works: Sequence[Callable[[], None]]) -> None:
    torch.set_num_threads(1)
    works[index]()


def _enter(
    rank: int, work: Callable[[int, int, Path], None], ranks: int, work_dir: Path, store: str
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    work(rank, ranks, work_dir)
    dist.destroy_process_group()


def average_gradients(model: nn.Module, ranks: int) -> None:
    """Replace every gradient by its mean over the ranks."""
    if ranks == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    sum_over_ranks(gradients)
    torch._foreach_div_(gradients, ranks)


def sum_over_ranks(tensors: list[Tensor]) -> None:
    """Add up tensors over the ranks in place, in one message."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    at = 0
    for tensor in tensors:
        tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
        at += tensor.numel()


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Scale the gradients down to a total norm of `limit`; returns the norm before."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
