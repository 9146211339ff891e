"""The evaluation counts right, and asks for what it says."""

from __future__ import annotations

from pathlib import Path

import torch

from training.data import UNSEEN
from training.evaluate import Row, markdown, score, unseen_captions, write_figures
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


def test_the_figures_go_into_the_card_between_its_marks(tmp_path: Path) -> None:
    begin, end = "<!-- figures: written by training/evaluate.py -->", "<!-- end of figures -->"
    card = tmp_path / "README.md"
    card.write_text(f"before\n{begin}\nstale figures\n{end}\nafter\n")
    figures = {
        "table": "| the table |",
        "guidance_scale": 4.5,
        "captions": 200,
        "judge_on_held_out_renders": {"all three": 0.99},
        "vae_psnr_db": 32.5,
        "vae_tiny_psnr_db": 31.0,
        "decode_ms": {"1": {"vae": 20.0, "vae_tiny": 4.0}},
        "decode_speedup": {"1": 5.0},
        "megabytes": 24.0,
    }
    for _ in range(2):
        write_figures(tmp_path, figures)
    text = card.read_text()
    assert text.startswith(f"before\n{begin}\n| the table |\n")
    assert text.endswith(f"{end}\nafter\n")
    assert "stale" not in text
    assert "decode 1 latent, ms | 20.0 | 4.0 (5.0 times faster)" in text
