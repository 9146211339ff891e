"""A stage that is stopped and started again ends where an uninterrupted one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from training import judge
from training.data import JUDGE_TRAIN, JUDGE_VALIDATION, render_to
from training.loop import Average, Checkpoints, rate_at, seed_step


def test_the_rate_warms_up_holds_and_falls() -> None:
    rates = [rate_at(step, 1000, 2.0, warmup=10, hold=0.5) for step in range(1000)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[499] == 2.0
    assert rates[-1] == pytest.approx(0.06, rel=0.01)
    assert rates[500:] == sorted(rates[500:], reverse=True)


def test_steps_have_seeds_of_their_own() -> None:
    seeds = {seed_step(stage, step, rank) for stage in "ab" for step in (0, 1) for rank in (0, 1)}
    assert len(seeds) == 8


def test_the_average_follows_the_weights() -> None:
    model, copy = nn.Linear(2, 2), nn.Linear(2, 2)
    average = Average(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for step in range(100):
        average.update(step)
    average.copy_to(copy)
    torch.testing.assert_close(copy.weight, model.weight)


def test_checkpoints_go_on_where_they_stopped(tmp_path: Path) -> None:
    parts = {"model": nn.Linear(1, 1)}
    steps = Checkpoints(tmp_path / "stage.pt", parts, every=0.0).steps(10)
    assert [next(steps) for _ in range(4)] == [0, 1, 2, 3]
    # Step 3 is not known to be complete, as nobody asked for the next one.
    assert list(Checkpoints(tmp_path / "stage.pt", parts).steps(10)) == [3, 4, 5, 6, 7, 8, 9]
    assert list(Checkpoints(tmp_path / "stage.pt", parts).steps(10)) == []


def test_a_resumed_stage_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(judge, "BATCH", 4)
    for data in (JUDGE_TRAIN, JUDGE_VALIDATION):
        render_to(data, tmp_path / "data", workers=1, limit=16)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        (folder / "data").symlink_to(tmp_path / "data")
    judge.train_judge(whole, steps=4)

    class Stopped(Exception):
        pass

    def stop_at_two(stage: str, step: int, rank: int = 0) -> int:
        if step == 2:
            raise Stopped
        return seed_step(stage, step, rank)

    with monkeypatch.context() as patch:
        patch.setattr(judge, "seed_step", stop_at_two)
        patch.setattr(judge, "Checkpoints", lambda path, parts: Checkpoints(path, parts, every=0.0))
        with pytest.raises(Stopped):
            judge.train_judge(parts, steps=4)
    judge.train_judge(parts, steps=4)
    expected = torch.load(whole / "judge-weights.pt", weights_only=True)
    for name, weight in torch.load(parts / "judge-weights.pt", weights_only=True).items():
        torch.testing.assert_close(weight, expected[name], msg=name)
