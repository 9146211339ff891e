"""The split of combinations: disjoint, balanced, and every one of them renders."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from training.renderer import render
from training.scenes import COMBINATIONS, HELD_OUT, SEEN, balanced_scenes, draw_scene


def test_the_split_is_disjoint_and_complete() -> None:
    assert set(SEEN).isdisjoint(HELD_OUT)
    assert {*SEEN, *HELD_OUT} == set(COMBINATIONS)
    assert len(COMBINATIONS) == len(set(COMBINATIONS)) == 148


@pytest.mark.parametrize(("field", "times"), [("time", 5), ("background", 4), ("object", 2)])
def test_the_held_out_combinations_are_balanced(field: str, times: int) -> None:
    assert set(Counter(getattr(c, field) for c in HELD_OUT).values()) == {times}


@pytest.mark.parametrize("field", ["time", "background", "object"])
def test_everything_held_out_is_seen_in_other_combinations(field: str) -> None:
    assert {getattr(c, field) for c in HELD_OUT} == {getattr(c, field) for c in SEEN}


def test_scenes_are_drawn_evenly() -> None:
    scenes = balanced_scenes(HELD_OUT, 200, random.Random(0))
    assert set(Counter(scene.combination for scene in scenes).values()) == {10}


def test_only_what_applies_is_asked_for() -> None:
    rng = random.Random(0)
    for combination in COMBINATIONS:
        scene = draw_scene(combination, rng)
        assert (scene.side is None) == (scene.object == "none")
        assert scene.moon is None or scene.time == "night"


def test_every_combination_renders() -> None:
    rng = random.Random(0)
    for combination in COMBINATIONS:
        picture = render(draw_scene(combination, rng), seed=1)
        assert picture.shape == (128, 128, 3)
        assert picture.std() > 5


@pytest.mark.parametrize("size", [(192, 128), (128, 192), (64, 64)])
def test_other_sizes_render(size: tuple[int, int]) -> None:
    scene = draw_scene(HELD_OUT[0], random.Random(0))
    assert render(scene, 1, size).shape == (size[1], size[0], 3)


def test_the_same_seed_draws_the_same_picture() -> None:
    scene = draw_scene(HELD_OUT[1], random.Random(0))
    np.testing.assert_array_equal(render(scene, 7), render(scene, 7))
    assert (render(scene, 7) != render(scene, 8)).any()
