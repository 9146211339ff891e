"""Sky, moon and the five backgrounds, drawn from far to near."""

from __future__ import annotations

import math
import random

from training.renderer.canvas import Canvas, Colour, Point, mix
from training.renderer.light import WHITE, Light
from training.scenes import Scene

_SIDE_X = {"left": 0.25, "center": 0.5, "right": 0.75}


def horizon_of(scene: Scene) -> float:
    """Where sky and land meet, as a part of the height."""
    return 0.56 if scene.background == "sea" else 0.62


def draw_sky(canvas: Canvas, scene: Scene, light: Light, rng: random.Random) -> None:
    """Gradient, stars, and the sun or the moon on the side away from the object."""
    width, height = canvas.width, canvas.height
    unit = min(width, height)
    horizon = horizon_of(scene) * height
    top, middle, low = light.sky
    canvas.gradient(0, height, [(0.0, top), (0.32, middle), (horizon / height, low), (1.0, low)])
    x = _light_x(scene, rng) * width
    if scene.weather in ("clear", "cloudy") and scene.time == "night":
        _draw_clouds(canvas, scene, light, rng, clear_of=x)
    if scene.time == "night":
        if scene.weather == "clear":
            for _ in range(rng.randint(10, 15)):
                star = (rng.random() * width, rng.uniform(0.02, 0.42) * height)
                canvas.disc(*star, rng.uniform(1.0, 1.5), (240, 242, 220))
        if scene.moon is not None:
            _draw_moon(canvas, scene.moon, x, rng.uniform(0.15, 0.22) * height, unit, light)
    elif scene.weather in ("clear", "cloudy"):
        _draw_sun(canvas, scene, x, horizon, unit, rng)
        _draw_clouds(canvas, scene, light, rng)


def _light_x(scene: Scene, rng: random.Random) -> float:
    if scene.side is None:
        return rng.uniform(0.2, 0.8)
    away = {"left": (0.66, 0.82), "center": (0.16, 0.26), "right": (0.18, 0.34)}[scene.side]
    x = rng.uniform(*away)
    return 1 - x if scene.side == "center" and rng.random() < 0.5 else x


def _draw_sun(
    canvas: Canvas, scene: Scene, x: float, horizon: float, unit: int, rng: random.Random
) -> None:
    if scene.time == "day":
        y, radius, colour, halo = 0.17 * canvas.height, 0.075, (255, 246, 190), 0.5
    elif scene.time == "dawn":
        y, radius, colour, halo = horizon - 0.13 * unit, 0.07, (255, 244, 214), 0.7
    else:
        y, radius, colour, halo = horizon - 0.10 * unit, 0.11, (255, 226, 120), 0.8
    y += rng.uniform(-0.03, 0.03) * unit
    canvas.glow(x, y, radius * 4 * unit, colour, halo)
    canvas.disc(x, y, radius * unit, colour)


def _draw_moon(canvas: Canvas, moon: str, x: float, y: float, unit: int, light: Light) -> None:
    radius = 0.1 * unit
    colour = (252, 246, 214)
    canvas.glow(x, y, 3 * radius, (170, 190, 240), 0.5)
    if moon == "full":
        canvas.disc(x, y, radius, colour)
        for dx, dy, size in ((-0.35, -0.2, 0.24), (0.3, 0.3, 0.28), (0.25, -0.45, 0.16)):
            canvas.disc(x + dx * radius, y + dy * radius, size * radius, (222, 214, 184))
    else:
        canvas.polygon(_crescent(x, y, radius), colour)


def _crescent(x: float, y: float, radius: float) -> list[Point]:
    """The outer arc of a disc, closed by the arc of a second disc moved to the right."""
    outer = [math.radians(a) for a in range(40, 321, 10)]
    inner = [math.radians(a) for a in range(300, 59, -10)]
    dx, small = 0.36 * radius, 0.80 * radius
    points = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in outer]
    return points + [(x + dx + small * math.cos(a), y + small * math.sin(a)) for a in inner]


def _draw_clouds(
    canvas: Canvas, scene: Scene, light: Light, rng: random.Random, clear_of: float | None = None
) -> None:
    """Clouds over the sky; none within reach of the moon, whose x is given as `clear_of`."""
    unit = min(canvas.width, canvas.height)
    if scene.weather == "cloudy":
        spots = [(0.12, 0.12), (0.5, 0.08), (0.88, 0.13), (0.3, 0.27), (0.72, 0.29)]
        size = 0.115
    else:
        spots = [(rng.random(), rng.uniform(0.12, 0.3))] if rng.random() < 0.4 else []
        size = 0.06
    shade = mix(light.overcast, light.sky[1], 0.25)
    bright = mix(light.overcast, WHITE, 0.25 if scene.time == "night" else 0.72)
    if scene.time == "sunset":
        bright = mix(bright, (255, 190, 150), 0.55)
    for cx, cy in spots:
        x = (cx + rng.uniform(-0.08, 0.08)) * canvas.width
        y = (cy + rng.uniform(-0.03, 0.03)) * canvas.height
        if clear_of is not None and abs(x - clear_of) < 0.3 * unit:
            continue
        _draw_cloud(canvas, x, y, size * unit * rng.uniform(0.85, 1.15), shade, bright)


def _draw_cloud(
    canvas: Canvas, x: float, y: float, size: float, shade: Colour, bright: Colour
) -> None:
    puffs = ((-1.3, 0.1, 0.62), (-0.5, -0.25, 0.85), (0.45, -0.35, 0.95), (1.3, 0.05, 0.68))
    for colour, lift in ((shade, 0.18), (bright, -0.08)):
        for dx, dy, r in puffs:
            canvas.ellipse(x + dx * size, y + (dy + lift) * size, r * size, 0.72 * r * size, colour)


def draw_land(canvas: Canvas, scene: Scene, light: Light, rng: random.Random) -> None:
    """The background named by the scene, from the horizon to the lower edge."""
    draw = {
        "mountains": _draw_mountains,
        "hills": _draw_hills,
        "sea": _draw_sea,
        "desert": _draw_desert,
        "city": _draw_city,
    }[scene.background]
    draw(canvas, scene, light, rng)


def _band(
    canvas: Canvas,
    y: float,
    amplitude: float,
    colour: Colour,
    rng: random.Random,
    waves: float = 1.0,
) -> list[Point]:
    """A rolling edge at y with everything below it filled; returns the edge."""
    width, phase = canvas.width, rng.random() * math.tau
    second = rng.random() * math.tau
    edge = []
    for step in range(25):
        turn = step / 24 * math.tau * waves
        lift = math.sin(turn + phase) + 0.4 * math.sin(2.3 * turn + second)
        edge.append((step / 24 * width, y - amplitude * lift))
    canvas.polygon([*edge, (width, canvas.height), (0, canvas.height)], colour)
    return edge


def _draw_mountains(canvas: Canvas, scene: Scene, light: Light, rng: random.Random) -> None:
    width, height = canvas.width, canvas.height
    base = horizon_of(scene) * height + 0.06 * height
    far = light.ground((104, 120, 168), 0.62, snow=0.55)
    far_dark = light.ground((84, 100, 150), 0.62, snow=0.45)
    near = light.ground((98, 104, 134), 0.2, snow=0.5)
    near_dark = light.ground((66, 72, 104), 0.2, snow=0.3)
    snow = light.ground((250, 250, 255), 0.05)
    snow_dark = light.ground((196, 208, 234), 0.05)
    shift = rng.uniform(-0.1, 0.1)
    for place in (0.08, 0.36, 0.64, 0.94):
        peak = (place + shift + rng.uniform(-0.05, 0.05)) * width
        top = base - rng.uniform(0.32, 0.42) * height
        _draw_peak(canvas, peak, top, base, 0.27 * width, (far, far_dark), (snow, snow_dark))
    start = rng.choice((0.02, 0.2))
    for place in (start, start + 0.42, start + 0.84):
        peak = (place + rng.uniform(-0.05, 0.05)) * width
        top = base - rng.uniform(0.2, 0.31) * height
        _draw_peak(canvas, peak, top, base, 0.26 * width, (near, near_dark), (snow, snow_dark))
    _band(canvas, base, 0.015 * height, light.ground((96, 150, 92), 0.15), rng)
    _band(canvas, 0.8 * height, 0.02 * height, light.ground((122, 178, 92)), rng)


def _draw_peak(
    canvas: Canvas,
    x: float,
    top: float,
    base: float,
    half: float,
    rock: tuple[Colour, Colour],
    cap: tuple[Colour, Colour],
) -> None:
    """A triangle lit from the left, with a zigzag snow cap."""
    bend = x + 0.14 * half
    canvas.polygon([(x - half, base), (x, top), (bend, base)], rock[0])
    canvas.polygon([(x, top), (x + half, base), (bend, base)], rock[1])
    line = top + 0.36 * (base - top)
    reach = 0.36 * half
    notch = 0.1 * (base - top)
    mid = x + 0.05 * half
    left = [(x, top), (x - reach, line), (x - 0.45 * reach, line - notch), (mid, line + notch)]
    right = [(x, top), (mid, line + notch), (x + 0.5 * reach, line - notch), (x + reach, line)]
    canvas.polygon(left, cap[0])
    canvas.polygon(right, cap[1])


def _draw_hills(canvas: Canvas, scene: Scene, light: Light, rng: random.Random) -> None:
    height = canvas.height
    base = horizon_of(scene)
    layers = (
        (base - 0.06, 0.035, (112, 168, 128), 0.62, 1.2),
        (base + 0.02, 0.04, (104, 176, 92), 0.3, 0.9),
        (base + 0.11, 0.04, (132, 198, 84), 0.1, 0.7),
        (0.84, 0.025, (108, 178, 70), 0.0, 0.6),
    )
    for y, amplitude, colour, distance, waves in layers:
        lit = light.ground(colour, distance)
        edge = _band(canvas, y * height, amplitude * height, lit, rng, waves)
        brim = [*edge, *((x, y + 0.022 * height) for x, y in reversed(edge))]
        canvas.polygon(brim, mix(lit, light.horizon, 0.22))
        if 0.05 < distance < 0.5:
            for _ in range(2):
                x, y = edge[rng.randrange(2, 23)]
                bush = light.ground((70, 130, 74), distance)
                canvas.ellipse(x, y, 0.045 * height, 0.032 * height, bush)


def _draw_sea(canvas: Canvas, scene: Scene, light: Light, rng: random.Random) -> None:
    width, height = canvas.width, canvas.height
    horizon = horizon_of(scene) * height
    if rng.random() < 0.4:
        x, reach = rng.random() * width, rng.uniform(0.15, 0.3) * width
        island = light.ground((96, 124, 150), 0.6)
        canvas.ellipse(x, horizon, reach, 0.07 * height, island)
    far = light.ground((64, 150, 204), 0.4, snow=0.25)
    near = light.ground((26, 98, 168), 0.0, snow=0.2)
    canvas.gradient(horizon, height, [(0.0, far), (0.5, mix(far, near, 0.7)), (1.0, near)])
    foam = mix(near, light.horizon, 0.55)
    for row in range(4):
        y = horizon + (0.06 + 0.1 * row) * height
        for _ in range(2):
            x, reach = rng.random() * width, (0.05 + 0.025 * row) * width
            canvas.ellipse(x, y + rng.uniform(-2, 2), reach, 0.008 * height, foam, 0.7)
    if scene.object == "palm" or (scene.object in ("none", "balloon") and rng.random() < 0.4):
        sand = light.ground((240, 212, 150))
        _band(canvas, 0.875 * height, 0.015 * height, mix(sand, WHITE, 0.35), rng, 0.5)
        _band(canvas, 0.9 * height, 0.015 * height, sand, rng, 0.5)
    if scene.object == "lighthouse":
        assert scene.side is not None
        _draw_rocks(canvas, _SIDE_X[scene.side] * width, light)


def _draw_rocks(canvas: Canvas, x: float, light: Light) -> None:
    unit = min(canvas.width, canvas.height)
    y = 0.92 * canvas.height
    rock, shade = light.ground((138, 124, 116)), light.ground((104, 92, 92))
    canvas.ellipse(
        x, y + 0.02 * unit, 0.33 * unit, 0.05 * unit, mix(light.horizon, WHITE, 0.3), 0.6
    )
    for dx, rx, ry, colour in ((0.12, 0.17, 0.09, shade), (-0.1, 0.19, 0.1, rock)):
        canvas.ellipse(x + dx * unit, y, rx * unit, ry * unit, colour)
    canvas.ellipse(x, y - 0.03 * unit, 0.16 * unit, 0.07 * unit, rock)


def _draw_desert(canvas: Canvas, scene: Scene, light: Light, rng: random.Random) -> None:
    width, height = canvas.width, canvas.height
    horizon = horizon_of(scene) * height
    mesa = light.ground((198, 116, 84), 0.35, snow=0.5)
    mesa_dark = light.ground((168, 92, 74), 0.35, snow=0.4)
    for x in (rng.uniform(0.0, 0.3), rng.uniform(0.65, 1.0)):
        x, top, half = x * width, horizon - rng.uniform(0.1, 0.19) * height, 0.15 * width
        foot = horizon + 0.05 * height
        canvas.polygon(
            [(x - half, foot), (x - 0.7 * half, top), (x + 0.7 * half, top), (x + half, foot)], mesa
        )
        canvas.polygon(
            [
                (x + 0.2 * half, top),
                (x + 0.7 * half, top),
                (x + half, foot),
                (x + 0.3 * half, foot),
            ],
            mesa_dark,
        )
    dunes = ((0.62, (236, 192, 128), 0.25), (0.7, (244, 204, 132), 0.1), (0.82, (248, 212, 142), 0))
    for y, colour, distance in dunes:
        lit, shade = light.ground(colour, distance), light.ground((206, 146, 92), distance)
        edge = _band(canvas, y * height, 0.03 * height, lit, rng, 0.8)
        crest = max(range(5, 20), key=lambda i: -edge[i][1])
        slope = [edge[crest], *edge[crest + 1 :], (width, edge[-1][1] + 0.05 * height)]
        tail = (edge[crest][0] + 0.1 * width, edge[crest][1] + 0.14 * height)
        canvas.polygon([*slope, tail], mix(lit, shade, 0.6))


def _draw_city(canvas: Canvas, scene: Scene, light: Light, rng: random.Random) -> None:
    width, height = canvas.width, canvas.height
    ground = 0.76 * height
    far = light.ground((128, 142, 180), 0.6, snow=0.2)
    x = -rng.uniform(0, 0.1) * width
    while x < width:
        wide = rng.uniform(0.1, 0.17) * width
        canvas.rectangle(x, ground - rng.uniform(0.36, 0.56) * height, x + wide, ground, far)
        x += wide
    x = -rng.uniform(0, 0.12) * width
    walls: list[Colour] = [
        (196, 138, 122),
        (132, 146, 196),
        (206, 172, 136),
        (126, 170, 180),
        (174, 142, 176),
    ]
    while x < width:
        wide = rng.choice((0.16, 0.21, 0.26)) * width
        top = ground - rng.uniform(0.2, 0.42) * height
        _draw_building(canvas, (x, top, x + wide, ground), light, rng.choice(walls), rng)
        x += wide + 0.012 * width
    canvas.rectangle(0, ground, width, height, light.ground((118, 168, 102)))
    canvas.rectangle(0, ground, width, ground + 0.035 * height, light.ground((198, 196, 196)))


def _draw_building(
    canvas: Canvas,
    box: tuple[float, float, float, float],
    light: Light,
    wall: Colour,
    rng: random.Random,
) -> None:
    left, top, right, bottom = box
    unit = min(canvas.width, canvas.height)
    lit = light.ground(wall, 0.12, snow=0.15)
    canvas.rectangle(left, top, right, bottom, lit)
    roof = light.ground(WHITE if light.snow else mix(wall, (60, 50, 70), 0.4), 0.1)
    canvas.rectangle(left, top, right, top + (0.025 if light.snow else 0.012) * unit, roof)
    columns = max(2, round((right - left) / (0.062 * unit)))
    pitch = (right - left) / columns
    y = top + 0.045 * unit
    while y + 0.04 * unit < bottom:
        for column in range(columns):
            shining = rng.random() < (0.7 if light.lamps else 1.0)
            glass = (
                mix(lit, (255, 216, 116), light.lamps) if shining else mix(lit, (40, 44, 80), 0.3)
            )
            if not light.lamps:
                glass = mix(lit, (226, 240, 252), 0.55)
            x = left + (column + 0.5) * pitch
            canvas.rectangle(x - 0.016 * unit, y, x + 0.016 * unit, y + 0.034 * unit, glass)
        y += 0.07 * unit
