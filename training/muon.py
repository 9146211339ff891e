"""Muon: momentum with orthogonalised updates for the matrices, AdamW for everything else.

Source: Jordan et al., https://kellerjordan.github.io/posts/muon/ (2024); the update scale that
lets both share one learning rate is that of Liu et al., arXiv:2502.16982, section 2.2.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from training.ranks import sum_over_ranks

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(stack: Tensor, steps: int = 4) -> Tensor:
    """Push the singular values of every matrix of (count, rows, columns) towards 1.

    Newton-Schulz on the Gram matrix only: X <- p(X Xt) X repeated is one product of small square
    matrices applied to X at the end. That product may round to bfloat16; the Gram matrix may not,
    for its rounded small eigenvalues would be blown up.
    """
    wide = stack.mT if stack.shape[-2] > stack.shape[-1] else stack
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-7)
    a, b, c = _COEFFICIENTS
    gram = wide @ wide.mT
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    total: Tensor | None = None
    for step in range(steps):
        poly = a * eye + b * gram + c * (gram @ gram)
        total = poly if total is None else poly @ total
        if step < steps - 1:
            gram = poly @ gram @ poly
    assert total is not None
    result: Tensor = (total.bfloat16() @ wide.bfloat16()).float()
    return result.mT if stack.shape[-2] > stack.shape[-1] else result


class Muon:
    """The optimiser of every image network: matrices by Muon, the rest by AdamW, one rate for both.

    With `ranks` above 1 each rank orthogonalises its share of the matrices and all exchange them.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        by_adam: tuple[str, ...] = (),
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._rank, self._ranks = rank, ranks
        self._momentum = momentum
        self._weight_decay = weight_decay
        shapes: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        rest = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.ndim >= 2 and not any(part in name for part in by_adam):
                shapes[parameter.shape[0], parameter[0].numel()].append(parameter)
            else:
                rest.append(parameter)
        self._groups: list[list[Tensor]] = [[*group] for group in shapes.values()]
        self._buffers = [
            torch.zeros(len(g), g[0].shape[0], g[0][0].numel(), device=g[0].device)
            for g in self._groups
        ]
        self._adam = torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0)

    def zero_grad(self) -> None:
        for group in self._groups:
            for parameter in group:
                parameter.grad = None
        self._adam.zero_grad()

    @torch.no_grad()
    def step(self, rate: float) -> None:
        updates = [self._direction(g, b) for g, b in zip(self._groups, self._buffers, strict=True)]
        if self._ranks > 1:
            sum_over_ranks(updates)
        for group, update in zip(self._groups, updates, strict=True):
            scale = -0.2 * rate * max(update.shape[1:]) ** 0.5
            torch._foreach_mul_(group, 1 - rate * self._weight_decay)
            parts = [u.view_as(p) for p, u in zip(group, update, strict=True)]
            torch._foreach_add_(group, parts, alpha=scale)
        for adam_group in self._adam.param_groups:
            adam_group["lr"] = rate
        self._adam.step()

    def _direction(self, group: list[Tensor], buffer: Tensor) -> Tensor:
        """Orthogonalised Nesterov momentum, (count, rows, columns); zero where not our share."""
        gradients = torch.stack([_gradient(p).reshape(buffer.shape[1:]) for p in group])
        buffer.lerp_(gradients, 1 - self._momentum)
        ahead = gradients.lerp_(buffer, self._momentum)
        if self._ranks == 1:
            return orthogonalise(ahead)
        mine = slice(self._rank, None, self._ranks)
        update = torch.zeros_like(ahead)
        if len(ahead) > self._rank:
            update[mine] = orthogonalise(ahead[mine])
        return update

    def state_dict(self) -> dict[str, Any]:
        return {"buffers": self._buffers, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for buffer, saved in zip(self._buffers, state["buffers"], strict=True):
            buffer.copy_(saved)
        self._adam.load_state_dict(state["adam"])


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
