"""A job while it is being denoised, and the network as the engine sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from glimpse.engine.solver import Solver
    from glimpse.ports import Job


@dataclass(frozen=True, slots=True)
class Rows:
    """Conditioning of one job, or of several, as rows of a batch: of a job one row, or with
    guidance two, the negative first. What the tensors are is the family's; the first dimension of
    each is rows.
    """

    tensors: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.tensors[0])

    def split(self, parts: int) -> list[Rows]:
        """Nearly equal parts, as `torch.Tensor.tensor_split`; they share memory with this one."""
        tensors = (tensor.tensor_split(parts) for tensor in self.tensors)
        return [Rows(several) for several in zip(*tensors, strict=True)]


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the VAE's encoder knows of an input picture: mean and deviation, [1, C, h, w]. A sample
    times `scale` is latents of the network's. `mask`: as in `Inpainting`, where there is one."""

    mean: torch.Tensor
    std: torch.Tensor
    scale: float
    mask: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Inpainting:
    """What an inpainting keeps: the input picture's latents, and the noise that they are under
    between two steps, [1, C, h, w] each. `mask` [1, 1, h, w] is 1 where the picture is repainted,
    0 where it is kept.
    """

    original: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor


class Network(Protocol):
    """A family's denoising network: rows in, rows out."""

    device: torch.device
    dtype: torch.dtype
    latent_channels: int
    latent_factor: int
    scheduler_config: Mapping[str, Any]

    def rows(self, conditioning: Any, guided: bool, width: int, height: int) -> Rows: ...

    def posterior(self, image: Any) -> Posterior: ...

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        """One call: latents [rows, C, h, w], a timestep for each row -> prediction, as latents."""
        ...


@dataclass(slots=True)
class RunningJob:
    """All that a job is between two steps. `index` is the next step, from 0."""

    settings: Job
    rows: Rows
    solver: Solver
    generator: torch.Generator
    latents: torch.Tensor
    inpainting: Inpainting | None = None
    index: int = 0

    @property
    def done(self) -> bool:
        return self.index == len(self.solver)
