"""The evaluation counts right, and asks for what it says."""

from __future__ import annotations

import torch

from training.data import UNSEEN
from training.evaluate import Row, markdown, score, unseen_captions
from training.scenes import HELD_OUT, Scene
from training.text import labels

SCENES = [
    Scene("dawn", "hills", "tree", "clear", colour="green", side="left"),
    Scene("day", "sea", "none", "rain"),
    Scene("night", "city", "house", "snow", colour="red", side="right"),
    Scene("sunset", "desert", "cactus", "fog", side="center"),
]


def test_a_perfect_model_scores_a_hundred() -> None:
    assert score("x", labels(SCENES), SCENES) == Row("x", 100, 100, 100, 100, 100)


def test_each_attribute_counts_for_itself_and_all_three_need_all() -> None:
    found = labels(SCENES)
    found["time"] = found["time"].clone()
    found["time"][0] = labels(SCENES)["time"][1]
    found["object"] = found["object"].clone()
    found["object"][:2] = labels(SCENES)["object"][2]
    found["weather"] = torch.zeros_like(found["weather"])
    assert score("x", found, SCENES) == Row("x", 75, 100, 50, 25, 50)


def test_two_hundred_captions_of_held_out_combinations_only() -> None:
    scenes = UNSEEN.scenes
    assert len(unseen_captions(scenes)) == 200
    assert {scene.combination for scene in scenes} == set(HELD_OUT)


def test_the_table_has_a_line_for_each_row() -> None:
    lines = markdown([Row("real", 100, 99.5, 98, 97, 96)]).splitlines()
    assert lines[0] == "| images | time | background | object | weather | all three |"
    assert lines[2] == "| real | 100.0 | 99.5 | 98.0 | 97.0 | 96.0 |"
