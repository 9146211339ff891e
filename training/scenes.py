"""What a picture may be asked to show, and which combinations are never trained on."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

TIMES = ("dawn", "day", "sunset", "night")
BACKGROUNDS = ("mountains", "hills", "sea", "desert", "city")
OBJECTS = (
    "none",
    "tree",
    "pines",
    "house",
    "windmill",
    "cactus",
    "palm",
    "balloon",
    "sailboat",
    "lighthouse",
)
WEATHERS = ("clear", "cloudy", "rain", "snow", "fog")
SIDES = ("left", "center", "right")
MOONS = ("full", "crescent")
COLOURS = {
    "tree": ("green", "orange", "red", "pink"),
    "house": ("red", "white", "yellow", "blue"),
    "balloon": ("red", "blue", "yellow", "green", "purple", "orange"),
    "sailboat": ("white", "red", "yellow", "blue"),
    "lighthouse": ("red", "white", "blue", "yellow"),
}
ALL_COLOURS = ("red", "white", "yellow", "blue", "green", "orange", "pink", "purple")

_SEA_OBJECTS = ("none", "balloon", "palm", "sailboat", "lighthouse")
_LAND_OBJECTS = OBJECTS[:8]
_WEATHER_ODDS = (4, 2, 1, 1, 1)
# Rain clouds and fog hide the moon, so captions must not promise one.
_MOONLIT = ("clear", "cloudy", "snow")


class Combination(NamedTuple):
    """The three attributes whose combinations are split into seen and held out."""

    time: str
    background: str
    object: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything a caption can say about one picture; None where it does not apply."""

    time: str
    background: str
    object: str
    weather: str
    colour: str | None = None
    side: str | None = None
    moon: str | None = None

    @property
    def combination(self) -> Combination:
        return Combination(self.time, self.background, self.object)


COMBINATIONS = tuple(
    Combination(time, background, thing)
    for time, background in product(TIMES, BACKGROUNDS)
    for thing in (_SEA_OBJECTS if background == "sea" else _LAND_OBJECTS)
)


def _held_out() -> tuple[Combination, ...]:
    """20 combinations: every object twice, every time five times, every background four times."""
    chosen = [
        Combination("dawn", "sea", "lighthouse"),
        Combination("day", "sea", "lighthouse"),
        Combination("sunset", "sea", "sailboat"),
        Combination("night", "sea", "sailboat"),
    ]
    land = [background for background in BACKGROUNDS if background != "sea"]
    for index, thing in enumerate(_LAND_OBJECTS):
        first_time = index + index // 4
        chosen.append(Combination(TIMES[first_time % 4], land[index % 4], thing))
        chosen.append(Combination(TIMES[(first_time + 2) % 4], land[(index + 2) % 4], thing))
    return tuple(chosen)


HELD_OUT = _held_out()
SEEN = tuple(combination for combination in COMBINATIONS if combination not in HELD_OUT)


def draw_scene(combination: Combination, rng: random.Random) -> Scene:
    """Fill in what the combination leaves open."""
    time, background, thing = combination
    weather = rng.choices(WEATHERS, _WEATHER_ODDS)[0]
    colours = COLOURS.get(thing)
    return Scene(
        time=time,
        background=background,
        object=thing,
        weather=weather,
        colour=rng.choice(colours) if colours else None,
        side=rng.choice(SIDES) if thing != "none" else None,
        moon=rng.choice(MOONS) if time == "night" and weather in _MOONLIT else None,
    )


def balanced_scenes(
    combinations: tuple[Combination, ...], count: int, rng: random.Random
) -> list[Scene]:
    """`count` scenes in random order; the combinations' counts differ by one at most."""
    scenes = [draw_scene(combinations[i % len(combinations)], rng) for i in range(count)]
    rng.shuffle(scenes)
    return scenes
