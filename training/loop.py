"""What every training loop shares: rates, averages of weights, checkpoints, seeds by step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import torch
from torch import Tensor, nn


class Stateful(Protocol):
    """Anything a checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> object: ...


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_step(stage: str, step: int, rank: int = 0) -> int:
    """Seed torch for one step, so that a resumed run draws what an uninterrupted one does."""
    seed = crc32(f"{stage}/{step}/{rank}".encode())
    torch.manual_seed(seed)
    return seed


def rate_at(step: int, steps: int, peak: float, *, warmup: int = 50, hold: float = 0.0) -> float:
    """Linear warm-up, `peak` until the part `hold` of all steps, then a cosine to 3% of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    start = max(warmup, hold * steps)
    if step < start:
        return peak
    progress = (step - start) / max(1.0, steps - start)
    return peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * progress)))


class Average:
    """Exponential moving average of a model's floating-point weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._weights = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        weights = list(self._weights.values())
        torch._foreach_lerp_(weights, [p.data for p in self._model.parameters()], 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.copy_(self._weights[name])

    def state_dict(self) -> dict[str, Any]:
        return dict(self._weights)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(state[name])


class Checkpoints:
    """Saves a stage's state every few minutes and finds it again; one file per stage."""

    def __init__(
        self,
        path: Path,
        parts: Mapping[str, Stateful],
        *,
        every: float = 180.0,
        writes: bool = True,
    ) -> None:
        self._path = path
        self._parts = parts
        self._every = every
        self._writes = writes
        self._saved_at = time.monotonic()

    def steps(self, total: int) -> Iterator[int]:
        """The steps still to do, from the saved one on; saves in between and at the end."""
        start = self._load()
        for step in range(start, total):
            yield step
            if time.monotonic() - self._saved_at > self._every:
                self._save(step + 1)
        if start < total:
            self._save(total)

    def _load(self) -> int:
        if not self._path.exists():
            return 0
        state = torch.load(self._path, map_location=device(), weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])

    def _save(self, step: int) -> None:
        self._saved_at = time.monotonic()
        if not self._writes:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        state = {name: part.state_dict() for name, part in self._parts.items()}
        torch.save({**state, "step": step}, partial)
        partial.replace(self._path)


class Progress:
    """One line of a stage's running means every `every` steps."""

    def __init__(self, stage: str, total: int, *, every: int = 100, silent: bool = False) -> None:
        self._stage = stage
        self._total = total
        self._every = every
        self._silent = silent
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._since = time.monotonic()

    def add(self, step: int, **values: Tensor) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + value.detach().float().cpu()
        self._count += 1
        if (step + 1) % self._every and step + 1 != self._total:
            return
        pace = (time.monotonic() - self._since) / self._count
        means = " ".join(f"{n} {s.item() / self._count:.4f}" for n, s in self._sums.items())
        if not self._silent:
            clock = time.strftime("%H:%M:%S")
            line = f"{clock} {self._stage} {step + 1}/{self._total} {means} {pace:.3f} s/step"
            print(line, flush=True)
        self._sums, self._count, self._since = {}, 0, time.monotonic()
