"""Draws the landscapes that the built-in model learns from."""

from __future__ import annotations

import random

from training.renderer.backdrops import draw_land, draw_sky, horizon_of
from training.renderer.canvas import Canvas, Pixels, mix
from training.renderer.light import WHITE, Light
from training.renderer.things import draw_thing
from training.scenes import Scene

__all__ = ["Pixels", "render"]


def render(scene: Scene, seed: int, size: tuple[int, int] = (128, 128)) -> Pixels:
    """One picture of the scene, (height, width, 3), the same for the same seed.

    `size` is (width, height).
    """
    rng = random.Random(seed)
    canvas, light = Canvas(*size), Light.of(scene)
    draw_sky(canvas, scene, light, rng)
    draw_land(canvas, scene, light, rng)
    if scene.weather == "fog":
        _draw_fog(canvas, scene, light, 0.62)
    draw_thing(canvas, scene, light, rng)
    if scene.weather == "fog":
        _draw_fog(canvas, scene, light, 0.16)
    elif scene.weather == "rain":
        _draw_rain(canvas, light, rng)
    elif scene.weather == "snow":
        _draw_snow(canvas, rng)
    return canvas.pixels()


def _draw_fog(canvas: Canvas, scene: Scene, light: Light, depth: float) -> None:
    horizon = horizon_of(scene)
    fog = mix(light.horizon, WHITE, 0.12 if scene.time == "night" else 0.35)
    stops = [(0.0, 0.3), (horizon - 0.05, 1.0), (horizon + 0.08, 1.0), (1.0, 0.35)]
    canvas.veil(fog, [(place, depth * part) for place, part in stops])


def _draw_rain(canvas: Canvas, light: Light, rng: random.Random) -> None:
    """A lid of dark cloud and thick slanting streaks."""
    width, height = canvas.width, canvas.height
    unit = min(width, height)
    for row, shade in ((0.0, 0.42), (-0.05, 0.55)):
        cloud = mix(light.overcast, (44, 48, 72), shade)
        for index in range(6):
            x = (index + rng.uniform(0.2, 0.8)) / 6 * width
            y = (0.03 + row + rng.uniform(0, 0.03)) * height
            canvas.ellipse(x, y, 0.17 * unit, 0.085 * unit, cloud)
    drop = mix(light.horizon, WHITE, 0.7)
    for index in range(24):
        x = (index % 6 + rng.random()) / 6 * width * 1.08
        y = (0.12 + 0.88 * (index // 6 + rng.random()) / 4) * height
        streak = [(x, y), (x - 0.035 * unit, y + 0.1 * unit)]
        canvas.line(streak, 0.0125 * unit, drop, 0.62)


def _draw_snow(canvas: Canvas, rng: random.Random) -> None:
    """Large flakes, spread evenly over the picture."""
    unit = min(canvas.width, canvas.height)
    for index in range(36):
        x = (index % 6 + rng.random()) / 6 * canvas.width
        y = (index // 6 + rng.random()) / 6 * canvas.height
        radius = rng.uniform(0.009, 0.016) * unit
        canvas.disc(x, y, radius, WHITE, 0.92)
