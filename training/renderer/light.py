"""Palettes: what time of day and weather do to the colours of sky, ground and things."""

from __future__ import annotations

from dataclasses import dataclass

from training.renderer.canvas import Colour, mix, tint
from training.scenes import Scene

WHITE: Colour = (250, 250, 252)

_SKY: dict[str, tuple[Colour, Colour, Colour]] = {
    "dawn": ((112, 142, 212), (205, 172, 214), (255, 216, 190)),
    "day": ((52, 136, 228), (120, 190, 244), (214, 238, 250)),
    "sunset": ((84, 50, 128), (222, 86, 98), (255, 184, 72)),
    "night": ((12, 20, 62), (28, 46, 108), (70, 94, 164)),
}
_GROUND: dict[str, Colour] = {
    "dawn": (0.96, 0.86, 0.95),
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.74, 0.62),
    "night": (0.45, 0.53, 0.82),
}
# Things get more light than the ground, so that they stand out at every hour.
_THING: dict[str, Colour] = {
    "dawn": (1.0, 0.93, 0.96),
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.86, 0.76),
    "night": (0.76, 0.79, 0.94),
}
_OVERCAST: dict[str, Colour] = {
    "dawn": (208, 186, 208),
    "day": (186, 204, 216),
    "sunset": (222, 146, 112),
    "night": (62, 76, 124),
}
_OVERCAST_AMOUNT = {"clear": 0.0, "cloudy": 0.15, "rain": 0.6, "snow": 0.6, "fog": 0.55}
_HAZE_AMOUNT = {"clear": 0.45, "cloudy": 0.45, "rain": 0.6, "snow": 0.5, "fog": 0.85}
_DIM = {"clear": 1.0, "cloudy": 0.97, "rain": 0.86, "snow": 1.0, "fog": 0.97}
_LAMPS = {"dawn": 0.35, "day": 0.0, "sunset": 0.7, "night": 1.0}


@dataclass(frozen=True, slots=True)
class Light:
    """The light of one scene."""

    sky: tuple[Colour, Colour, Colour]
    overcast: Colour
    ground_tint: Colour
    thing_tint: Colour
    haze: float
    thing_haze: float
    lamps: float
    snow: bool

    @classmethod
    def of(cls, scene: Scene) -> Light:
        dim = _DIM[scene.weather] if scene.time != "night" else 1.0
        grey = tint(_OVERCAST[scene.time], (dim, dim, dim))
        amount = _OVERCAST_AMOUNT[scene.weather]
        top, middle, low = (mix(colour, grey, amount) for colour in _SKY[scene.time])
        return cls(
            sky=(top, middle, low),
            overcast=grey,
            ground_tint=tint(_GROUND[scene.time], (dim, dim, dim)),
            thing_tint=_THING[scene.time],
            haze=_HAZE_AMOUNT[scene.weather],
            thing_haze=0.14 if scene.weather == "fog" else 0.0,
            lamps=_LAMPS[scene.time],
            snow=scene.weather == "snow",
        )

    @property
    def horizon(self) -> Colour:
        return self.sky[2]

    def ground(self, colour: Colour, distance: float = 0.0, snow: float = 0.8) -> Colour:
        """A surface seen at a distance (0 near, 1 at the horizon), snowed over if it snows."""
        base = mix(colour, (242, 246, 255), snow) if self.snow else colour
        return mix(tint(base, self.ground_tint), self.horizon, self.haze * distance)

    def thing(self, colour: Colour) -> Colour:
        """A surface of the object the picture is about."""
        return mix(tint(colour, self.thing_tint), self.horizon, self.thing_haze)

    def lamp(self, unlit: Colour) -> Colour:
        """A window: dark by day, shining at night."""
        return mix(self.thing(unlit), (255, 222, 120), self.lamps)
