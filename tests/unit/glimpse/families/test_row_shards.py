"""`glimpse.families.row_shards`: which calls are shared out, and what each thread does."""

import threading
from collections.abc import Iterator

import pytest
import torch

from glimpse.engine.job import Rows
from glimpse.families.row_shards import RowShards

THREADS = 3


@pytest.fixture(autouse=True)
def threads_of_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


def inputs(count: int) -> tuple[torch.Tensor, torch.Tensor, Rows]:
    return (
        torch.randn(count, 4, 2, 2),
        torch.rand(count),
        Rows((torch.randint(9, (count, 5)).float(),)),
    )


class Recording:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int, str]] = []  # rows, threads of torch, thread

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        assert len(latents) == len(timesteps) == len(rows)
        name = threading.current_thread().name
        self.calls.append((len(rows), torch.get_num_threads(), name))
        return latents + (timesteps + rows.tensors[0].sum(1))[:, None, None, None]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_rows_are_one_call_of_all_threads(count: int) -> None:
    call = Recording()
    given = inputs(count)
    assert torch.equal(RowShards(call, THREADS)(*given), Recording()(*given))
    assert [(rows, threads) for rows, threads, _ in call.calls] == [(count, THREADS)]


@pytest.mark.parametrize("count", [6, 7, 16])
def test_many_rows_are_shared_out_in_their_order_to_threads_of_one(count: int) -> None:
    call = Recording()
    given = inputs(count)
    shards = RowShards(call, THREADS)
    for _ in range(2):
        call.calls.clear()
        assert torch.equal(shards(*given), Recording()(*given))
        assert sum(rows for rows, _, _ in call.calls) == count
        assert all(rows in (count // THREADS, count // THREADS + 1) for rows, _, _ in call.calls)
        assert {threads for _, threads, _ in call.calls} == {1}
        assert torch.get_num_threads() == THREADS


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_part_that_fails_fails_the_call_when_all_have_ended(failing: int) -> None:
    ended = []
    free = threading.Event()

    def call(latents: torch.Tensor, timesteps: torch.Tensor, rows: Rows) -> torch.Tensor:
        part = int(timesteps[0])
        if part == failing:
            free.set()
            raise ValueError(f"part {part}")
        assert free.wait(5)
        ended.append(part)
        return latents

    latents, _, rows = inputs(2 * THREADS)
    timesteps = torch.arange(THREADS).repeat_interleave(2)
    with pytest.raises(ValueError, match=f"part {failing}"):
        RowShards(call, THREADS)(latents, timesteps, rows)
    assert sorted(ended) == sorted({0, 1, 2} - {failing})
    assert torch.get_num_threads() == THREADS
