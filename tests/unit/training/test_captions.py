"""Captions say what they should, in many ways."""

from __future__ import annotations

import random

import pytest

from training.captions import caption
from training.scenes import COMBINATIONS, Scene, draw_scene

HOUSE = Scene("night", "city", "house", "rain", colour="red", side="left")
WORDS = {
    "night": ("night", "dark"),
    "city": ("city", "skyline", "town", "skyscrapers", "buildings"),
    "house": ("house", "cottage", "cabin", "home"),
    "rain": ("rain",),
}


def captions(scene: Scene, count: int = 200, **options: float | bool) -> list[str]:
    rng = random.Random(0)
    return [caption(scene, rng, **options).lower() for _ in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize("attribute", WORDS)
def test_a_complete_caption_names_every_attribute(attribute: str) -> None:
    for text in captions(HOUSE, noise=0.0, complete=True):
        assert any(word in text for word in (*WORDS[attribute], "midnight")), text


def test_colour_and_side_are_named_most_of_the_time_but_not_always() -> None:
    texts = captions(HOUSE, noise=0.0)
    assert 0.8 < sum("red" in text for text in texts) / len(texts) < 1
    assert 0.3 < sum("left" in text for text in texts) / len(texts) < 0.8


def test_captions_are_worded_afresh() -> None:
    assert len(set(captions(HOUSE))) > 150


def test_noise_adds_words_and_takes_none_away() -> None:
    for text in captions(HOUSE, noise=1.0, complete=True):
        assert any(word in text for word in WORDS["city"]), text


def test_no_caption_promises_what_is_not_there() -> None:
    empty = Scene("day", "sea", "none", "clear")
    for text in captions(empty, noise=0.0):
        assert not any(word in text for word in ("moon", "boat", "left", "house"))


def test_every_combination_has_words() -> None:
    rng = random.Random(0)
    for combination in COMBINATIONS:
        text = caption(draw_scene(combination, rng), rng)
        assert text == " ".join(text.split())
        assert "None" not in text
