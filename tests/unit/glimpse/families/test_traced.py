"""`glimpse.families.traced`: the same call, to the bit, for other rows and sizes than traced."""

from collections.abc import Iterator

import pytest
import torch

from glimpse.engine.job import Rows
from glimpse.families.sdxl import SDXLNetwork, Tuning
from glimpse.families.source import ModelSource
from glimpse.families.traced import Traced


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def traced(source: ModelSource) -> SDXLNetwork:
    with torch.no_grad():
        return SDXLNetwork(source, Tuning(traced=True))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 32), (128, 96), (40, 32), (72, 56)])
def test_a_traced_network_predicts_the_same_to_the_bit(
    network: SDXLNetwork, traced: SDXLNetwork, count: int, width: int, height: int
) -> None:
    latents, _, rows = network.blank(count, width, height)
    latents = torch.randn_like(latents)
    timesteps = 1000 * torch.rand(count)
    rows = Rows(tuple(tensor + torch.rand_like(tensor) for tensor in rows.tensors))
    expected = network.predict(latents, timesteps, rows)
    assert torch.equal(traced.predict(latents, timesteps, rows), expected)


def test_only_sizes_that_halve_without_a_remainder_are_traced() -> None:
    calls = 0
    module = torch.nn.Linear(4, 4)

    def call(latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        nonlocal calls
        calls += 1
        made: torch.Tensor = (
            module(latents) + timesteps[:, None, None, None] + rows.tensors[0].sum()
        )
        return made

    def inputs(side: int) -> tuple[torch.Tensor, torch.Tensor, Rows]:
        return torch.randn(2, 3, side, 4), torch.rand(2), Rows((torch.randn(2, 5),))

    traced = Traced(call, inputs(4), module, multiple=4)
    assert calls == 1
    traced(*inputs(8))
    assert calls == 1
    traced(*inputs(6))
    assert calls == 2


def test_the_weights_are_shared() -> None:
    module = torch.nn.Linear(4, 4)

    def call(latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        made: torch.Tensor = module(latents)
        return made

    given = torch.randn(2, 3, 4, 4), torch.rand(2), Rows((torch.randn(2, 5),))
    traced = Traced(call, given, module, multiple=4)
    module.weight.mul_(2)
    assert torch.equal(traced(*given), call(*given))
