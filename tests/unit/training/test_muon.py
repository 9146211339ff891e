"""Muon: updates are close to orthogonal, and its state survives a round trip."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(3, 16, 64), (3, 64, 16), (2, 1, 8)])
def test_singular_values_are_pushed_towards_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_it_learns_a_linear_map() -> None:
    torch.manual_seed(0)
    model, wanted = nn.Linear(8, 8), torch.randn(8, 8)
    muon = Muon(model)
    inputs = torch.randn(64, 8)
    losses = []
    for _ in range(200):
        loss = (model(inputs) - inputs @ wanted.T).square().mean()
        loss.backward()
        muon.step(0.05)
        muon.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
