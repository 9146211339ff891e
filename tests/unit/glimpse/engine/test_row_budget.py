"""`glimpse.engine.row_budget`: as many rows as there is memory for."""

import pytest
import torch

from glimpse.engine.row_budget import MOST, probe, rows_that_fit


@pytest.mark.parametrize(
    ("free", "rows"),
    [
        (10_000, MOST),  # room for 78, of which a device has no use
        (2_000, 15),  # 0.8 of it is 1,600: 100 in any case, and 15 times 100
        (400, 2),
        (0, 2),  # the least that a guided picture needs; the first call tells whether it is there
    ],
)
def test_rows_lie_on_the_line_through_two_measurements(free: int, rows: int) -> None:
    assert rows_that_fit(free, few=300, more=900) == rows


def test_a_call_whose_memory_does_not_grow_has_room_for_all() -> None:
    assert rows_that_fit(1_000, few=300, more=300) == MOST


def test_a_cpu_is_not_asked() -> None:
    def call(rows: int) -> None:
        raise AssertionError

    assert probe(call, torch.device("cpu")) == MOST


@pytest.mark.gpu
def test_a_gpu_gets_what_it_has_room_for() -> None:
    device = torch.device("cuda")
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)

    def call(rows: int) -> None:
        torch.empty(rows * (free // 16), dtype=torch.uint8, device=device)

    assert probe(call, device) == 12
