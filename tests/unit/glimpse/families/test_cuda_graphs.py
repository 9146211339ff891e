"""`glimpse.families.cuda_graphs`: which calls are recorded, and what is replayed for whom."""

from collections.abc import Callable, Iterator

import pytest
import torch

from glimpse.engine.job import Rows
from glimpse.families.conditioning import Conditioning
from glimpse.families.cuda_graphs import CudaGraphs
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder, Tuning
from glimpse.families.source import ModelSource


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def rerun(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
    """A recorder without a GPU: the same inputs and the same place for the result, run again."""
    result = work().clone()

    def replay() -> None:
        result.copy_(work())

    return result, replay


def inputs(count: int, side: int = 2) -> tuple[torch.Tensor, torch.Tensor, Rows]:
    tokens = torch.randn(count, 3, 5)
    return (
        torch.randn(count, 4, side, side),
        torch.rand(count),
        Rows((tokens[:, 0], tokens[:, 1], tokens)),
    )


def each_by_itself(latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Made of all that a row has, and of nothing of another row."""
    parts = timesteps + sum(tensor.flatten(1).sum(1) for tensor in rows.tensors)
    return latents + parts[:, None, None, None]


def test_rows_are_padded_up_and_recorded_once_for_each_shape() -> None:
    counts: list[int] = []

    def call(latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        counts.append(len(latents))
        return each_by_itself(latents, timesteps, rows)

    recordings = 0

    def record(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        nonlocal recordings
        recordings += 1
        return rerun(work)

    graphs = CudaGraphs(call, record)
    for count, side in ((1, 2), (2, 2), (3, 2), (4, 2), (3, 4), (9, 2), (16, 2)):
        given = inputs(count, side)
        assert torch.equal(graphs(*given), each_by_itself(*given))
    assert recordings == 5  # 1, 2, 4 and 16 rows of one side, 4 of the other
    assert set(counts) == {1, 2, 4, 16}
    given = inputs(17)
    assert torch.equal(graphs(*given), each_by_itself(*given))
    assert counts[-1] == 17 and recordings == 5


def test_a_result_does_not_change_with_the_next_call() -> None:
    graphs = CudaGraphs(each_by_itself, rerun)
    first = graphs(*inputs(3))
    before = first.clone()
    graphs(*inputs(4))
    assert torch.equal(first, before)


def test_what_does_not_fit_the_device_is_refused(source: ModelSource) -> None:
    with pytest.raises(ValueError, match="needs a device that is cuda"):
        SDXLNetwork(source, Tuning(cuda_graphs=True))


@pytest.mark.parametrize(
    "tuning", [Tuning(channels_last=True), Tuning(attention_backend="_native_math")]
)
def test_a_tuned_network_predicts_the_same(
    network: SDXLNetwork, source: ModelSource, text_encoder: SDXLTextEncoder, tuning: Tuning
) -> None:
    rows = network.rows(Conditioning(text_encoder.encode(["a"])[0], None), True, 64, 32)
    latents, timesteps = torch.randn(2, 4, 4, 8), torch.tensor([10.0, 900.0])
    expected = network.predict(latents, timesteps, rows)
    assert torch.allclose(
        SDXLNetwork(source, tuning).predict(latents, timesteps, rows), expected, atol=1e-5
    )


@pytest.mark.gpu
@pytest.mark.parametrize(
    "tuning", [Tuning(cuda_graphs=True), Tuning(compiled=True), Tuning(channels_last=True)]
)
def test_on_a_gpu_a_tuned_network_predicts_the_same(
    source: ModelSource, text_encoder: SDXLTextEncoder, tuning: Tuning
) -> None:
    import dataclasses

    there = dataclasses.replace(source, device=torch.device("cuda"))
    plain, tuned = SDXLNetwork(there), SDXLNetwork(there, tuning)
    conditioning = Conditioning(text_encoder.encode(["a"])[0], None)
    for _ in range(2):  # recorded or compiled, then run again
        for guided, count in ((False, 1), (True, 2)):
            rows = plain.rows(conditioning, guided, 64, 32)
            latents = torch.randn(count, 4, 4, 8, device="cuda")
            timesteps = torch.full((count,), 500.0)
            expected = plain.predict(latents, timesteps, rows)
            made = tuned.predict(latents, timesteps, rows)
            assert torch.allclose(made, expected, atol=1e-4)
