"""The nine objects a picture can be about: large, thick and bright, for an 8x autoencoder."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from training.renderer.canvas import Canvas, Colour, Point, mix
from training.renderer.light import WHITE, Light
from training.scenes import Scene

_PAINT: dict[str, Colour] = {
    "red": (216, 48, 48),
    "white": (248, 246, 240),
    "yellow": (250, 206, 46),
    "blue": (44, 104, 214),
    "green": (66, 160, 72),
    "orange": (240, 136, 36),
    "pink": (246, 156, 190),
    "purple": (146, 78, 190),
}
_WOOD: Colour = (118, 78, 52)
_DARK: Colour = (74, 52, 56)
_SIDE_X = {"left": 0.25, "center": 0.5, "right": 0.75}


def draw_thing(canvas: Canvas, scene: Scene, light: Light, rng: random.Random) -> None:
    """Draw the scene's object at its side, with a soft light behind it."""
    if scene.side is None:
        return
    unit = min(canvas.width, canvas.height)
    x = (_SIDE_X[scene.side] + rng.uniform(-0.03, 0.03)) * canvas.width
    if scene.object == "lighthouse":
        x = _SIDE_X[scene.side] * canvas.width
    foot = {"balloon": 0.66, "sailboat": 0.84, "lighthouse": 0.87}.get(scene.object, 0.91)
    y = (foot + rng.uniform(-0.025, 0.025)) * canvas.height
    size = rng.uniform(0.92, 1.08) * unit
    colour = _PAINT[scene.colour or "white"]
    canvas.glow(x, y - 0.25 * size, 0.42 * size, mix(light.horizon, WHITE, 0.35), 0.4)
    _THINGS[scene.object](canvas, x, y, size, colour, light, rng)


def _polygon(
    canvas: Canvas, x: float, y: float, size: float, shape: list[Point], colour: Colour
) -> None:
    """A polygon given relative to the foot of the object; up is negative."""
    canvas.polygon([(x + px * size, y + py * size) for px, py in shape], colour)


def _tree(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    trunk = [(-0.035, 0.0), (-0.025, -0.3), (0.025, -0.3), (0.04, 0.0)]
    _polygon(canvas, x, y, size, trunk, light.thing(_WOOD))
    shade, lit = light.thing(mix(colour, (20, 30, 60), 0.28)), light.thing(colour)
    bright = light.thing(mix(colour, WHITE, 0.75 if light.snow else 0.3))
    crown = ((-0.13, -0.27, 0.11), (0.13, -0.27, 0.11), (0.0, -0.25, 0.12), (0.0, -0.38, 0.14))
    for dx, dy, r in crown:
        canvas.disc(x + dx * size, y + dy * size, r * size, shade)
    for dx, dy, r in crown:
        canvas.disc(x + (dx - 0.02) * size, y + (dy - 0.025) * size, 0.8 * r * size, lit)
    for dx, dy, r in ((-0.14, -0.33, 0.045), (-0.03, -0.45, 0.06)):
        canvas.ellipse(x + dx * size, y + dy * size, r * size, 0.7 * r * size, bright)


def _pines(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    for dx, tall, dy in ((-0.17, 0.36, -0.03), (0.17, 0.38, -0.02), (0.0, 0.5, 0.02)):
        px, py = x + dx * size, y + dy * size
        trunk = [(-0.02, 0.0), (-0.02, -0.1), (0.02, -0.1), (0.02, 0.0)]
        _polygon(canvas, px, py, size, trunk, light.thing(_WOOD))
        for level in range(3):
            low, half = -0.06 - level * 0.27 * tall, (0.125 - 0.03 * level) * tall / 0.46
            tip = low - 0.42 * tall
            left, right = light.thing((46, 130, 84)), light.thing((28, 96, 74))
            _polygon(canvas, px, py, size, [(-half, low), (0, tip), (0, low + 0.012)], left)
            _polygon(canvas, px, py, size, [(half, low), (0, tip), (0, low + 0.012)], right)
            if light.snow:
                cap = [(-half * 0.5, low - 0.21 * tall), (0, tip), (half * 0.5, low - 0.21 * tall)]
                _polygon(canvas, px, py, size, cap, light.thing(WHITE))


def _house(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    wall = light.thing(colour)
    roof = light.thing((112, 62, 56) if colour != _PAINT["red"] else (84, 66, 76))
    _polygon(canvas, x, y, size, [(0.09, -0.3), (0.09, -0.44), (0.15, -0.44), (0.15, -0.3)], roof)
    _polygon(canvas, x, y, size, [(-0.18, 0), (-0.18, -0.24), (0.18, -0.24), (0.18, 0)], wall)
    shade = light.thing(mix(colour, (40, 40, 70), 0.2))
    _polygon(canvas, x, y, size, [(0.1, 0), (0.1, -0.24), (0.18, -0.24), (0.18, 0)], shade)
    gable = [(-0.24, -0.215), (0.0, -0.43), (0.24, -0.215)]
    _polygon(canvas, x, y, size, gable, roof)
    if light.snow:
        cap = [(-0.24, -0.235), (0.0, -0.45), (0.24, -0.235), (0.17, -0.255), (0.0, -0.37)]
        _polygon(canvas, x, y, size, [*cap, (-0.17, -0.255)], light.thing(WHITE))
    door = [(-0.035, 0), (-0.035, -0.14), (0.035, -0.14), (0.035, 0)]
    _polygon(canvas, x, y, size, door, light.thing(_DARK))
    frame, pane = light.thing(WHITE), light.lamp((74, 104, 140))
    for left in (-0.155, 0.065):
        for grow, paint in ((0.012, frame if colour != _PAINT["white"] else roof), (0.0, pane)):
            box = (left - grow, -0.165 - grow, left + 0.085 + grow, -0.085 + grow)
            corners = [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])]
            _polygon(canvas, x, y, size, corners, paint)


def _windmill(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    tower = [(-0.115, 0.0), (-0.065, -0.33), (0.065, -0.33), (0.115, 0.0)]
    _polygon(canvas, x, y, size, tower, light.thing((246, 236, 216)))
    shade = [(0.03, 0.0), (0.02, -0.33), (0.065, -0.33), (0.115, 0.0)]
    _polygon(canvas, x, y, size, shade, light.thing((206, 192, 180)))
    cap = [(-0.085, -0.32), (-0.05, -0.4), (0.0, -0.43), (0.05, -0.4), (0.085, -0.32)]
    _polygon(canvas, x, y, size, cap, light.thing((172, 58, 48)))
    door = [(-0.035, 0), (-0.035, -0.11), (0.03, -0.11), (0.03, 0)]
    _polygon(canvas, x, y, size, door, light.thing(_DARK))
    hub_x, hub_y = x, y - 0.36 * size
    turn = math.radians(45 + rng.uniform(-18, 18))
    for quarter in range(4):
        along = (math.cos(turn + quarter * math.pi / 2), math.sin(turn + quarter * math.pi / 2))
        across = (-along[1], along[0])

        def at(
            forward: float,
            side: float,
            along: Point = along,
            across: Point = across,
        ) -> Point:
            return (
                hub_x + (forward * along[0] + side * across[0]) * size,
                hub_y + (forward * along[1] + side * across[1]) * size,
            )

        sail = [at(0.07, -0.02), at(0.27, -0.02), at(0.27, 0.062), at(0.07, 0.062)]
        canvas.polygon(sail, light.thing((250, 232, 190)))
        canvas.line([at(0, -0.01), at(0.28, -0.01)], 0.024 * size, light.thing((96, 52, 44)))
    canvas.disc(hub_x, hub_y, 0.032 * size, light.thing((96, 52, 44)))


def _cactus(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    green, bright = light.thing((44, 138, 76)), light.thing((112, 192, 104))
    if light.snow:
        bright = light.thing(mix((112, 192, 104), WHITE, 0.6))
    flip = rng.choice((-1, 1))
    arms = (
        ([(0.0, 0.0), (0.0, -0.44)], 0.1),
        ([(0.0, -0.16), (0.16, -0.16), (0.16, -0.32)], 0.075),
        ([(0.0, -0.23), (-0.15, -0.23), (-0.15, -0.4)], 0.075),
    )
    for shape, thick in arms:
        points = [(x + flip * px * size, y + py * size) for px, py in shape]
        canvas.line(points, thick * size, green)
        for px, py in points[1:]:
            canvas.disc(px, py, thick * size / 2, green)
    for shape, thick in arms:
        (px, low), (_, high) = shape[-2:]
        px = flip * px - 0.15 * thick
        points = [(x + px * size, y + (low - 0.03) * size), (x + px * size, y + high * size)]
        canvas.line(points, 0.22 * thick * size, bright)


def _palm(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    lean = rng.choice((-1, 1)) * 0.07
    trunk, bark = light.thing((150, 104, 66)), light.thing((190, 142, 94))
    spine = [(x + lean * (t / 8) ** 2 * size, y - 0.36 * t / 8 * size) for t in range(9)]
    canvas.line(spine, 0.06 * size, trunk)
    canvas.line([(px - 0.01 * size, py) for px, py in spine], 0.022 * size, bark)
    top_x, top_y = spine[-1]
    dark, lit = light.thing((30, 116, 66)), light.thing((72, 172, 78))
    if light.snow:
        lit = light.thing(mix((72, 172, 78), WHITE, 0.45))
    fronds = ((-0.25, 0.1, dark), (0.25, 0.1, dark), (-0.13, 0.17, dark), (0.13, 0.17, dark))
    upper = ((-0.25, -0.05, lit), (0.25, -0.05, lit), (-0.12, -0.15, lit), (0.12, -0.15, lit))
    for dx, dy, paint in (*fronds, *upper):
        canvas.polygon(_frond(top_x, top_y, dx * size, dy * size, 0.1 * size), paint)
    for dx in (-0.03, 0.03):
        nut = (top_x + dx * size, top_y + 0.015 * size)
        canvas.disc(*nut, 0.025 * size, light.thing(_WOOD))


def _frond(x: float, y: float, dx: float, dy: float, sag: float) -> list[Point]:
    """A fat leaf from (x, y) to (x + dx, y + dy), arched upwards."""
    upper = [(x + dx * t / 6, y + dy * t / 6 - sag * math.sin(math.pi * t / 6)) for t in range(7)]
    lower = [
        (x + dx * t / 6, y + dy * t / 6 - 0.15 * sag * math.sin(math.pi * t / 6) + 0.008 * sag)
        for t in range(6, -1, -1)
    ]
    return upper + lower


def _balloon(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    top, radius = y - 0.33 * size, 0.17 * size
    light_stripe = light.thing(mix(colour, WHITE, 0.62))
    ropes, basket = light.thing(_DARK), light.thing((150, 98, 56))
    for dx in (-0.035, 0.035):
        canvas.line([(x + 1.6 * dx * size, y - 0.18 * size), (x + dx * size, y)], 1.2, ropes)
    canvas.polygon(
        [(x - 0.155 * size, top + 0.07 * size), (x + 0.155 * size, top + 0.07 * size),
         (x + 0.045 * size, y - 0.09 * size), (x - 0.045 * size, y - 0.09 * size)],
        light.thing(colour),
    )  # fmt: skip
    canvas.disc(x, top, radius, light.thing(colour))
    canvas.ellipse(x, top, 0.42 * radius, radius, light_stripe)
    canvas.polygon(
        [(x - 0.068 * size, top + 0.05 * size), (x + 0.068 * size, top + 0.05 * size),
         (x + 0.02 * size, y - 0.09 * size), (x - 0.02 * size, y - 0.09 * size)],
        light_stripe,
    )  # fmt: skip
    canvas.rectangle(x - 0.05 * size, y - 0.035 * size, x + 0.05 * size, y + 0.035 * size, basket)


def _sailboat(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    flip = rng.choice((-1, 1))

    def draw(shape: list[Point], paint: Colour) -> None:
        _polygon(canvas, x, y, size, [(flip * px, py) for px, py in shape], light.thing(paint))

    canvas.ellipse(
        x, y + 0.03 * size, 0.24 * size, 0.022 * size, mix(light.horizon, WHITE, 0.4), 0.6
    )
    draw([(-0.012, -0.05), (-0.012, -0.5), (0.012, -0.5), (0.012, -0.05)], _DARK)
    draw([(0.025, -0.47), (0.025, -0.1), (0.22, -0.1)], colour)
    draw([(-0.025, -0.42), (-0.025, -0.1), (-0.16, -0.1)], mix(colour, (40, 40, 90), 0.16))
    draw([(-0.24, -0.075), (0.26, -0.075), (0.17, 0.03), (-0.17, 0.03)], (128, 72, 46))
    draw([(-0.24, -0.075), (0.26, -0.075), (0.245, -0.05), (-0.225, -0.05)], (236, 216, 184))


def _lighthouse(
    canvas: Canvas,
    x: float,
    y: float,
    size: float,
    colour: Colour,
    light: Light,
    rng: random.Random,
) -> None:
    lamp_y = y - 0.475 * size
    plain = colour == _PAINT["white"]
    paint = light.thing(colour)
    band = light.thing((250, 246, 238) if not plain else (206, 210, 222))
    for stripe in range(4):
        low, high = -0.1 * stripe, -0.1 * (stripe + 1)
        wide, narrow = 0.1 - 0.012 * stripe, 0.1 - 0.012 * (stripe + 1)
        quad = [(-wide, low), (-narrow, high), (narrow, high), (wide, low)]
        _polygon(canvas, x, y, size, quad, band if stripe % 2 else paint)
    dark = light.thing((70, 62, 84))
    gallery = [(-0.085, -0.395), (-0.085, -0.425), (0.085, -0.425), (0.085, -0.395)]
    _polygon(canvas, x, y, size, gallery, dark)
    glow = 0.25 + 0.6 * light.lamps
    if light.lamps:
        away = -1 if x > canvas.width / 2 else 1
        beam = [(x, lamp_y), (x + away * 0.9 * size, lamp_y - 0.12 * size)]
        beam.append((x + away * 0.9 * size, lamp_y + 0.1 * size))
        canvas.polygon(beam, (255, 240, 170), 0.34 * light.lamps)
    canvas.glow(x, lamp_y, 0.2 * size, (255, 236, 150), glow)
    lantern = [(-0.05, -0.425), (-0.05, -0.52), (0.05, -0.52), (0.05, -0.425)]
    _polygon(canvas, x, y, size, lantern, (255, 236, 140))
    roof = [(-0.07, -0.515), (0.0, -0.585), (0.07, -0.515)]
    _polygon(canvas, x, y, size, roof, light.thing((170, 44, 44)) if not plain else dark)


_Painter = Callable[[Canvas, float, float, float, Colour, Light, random.Random], None]
_THINGS: dict[str, _Painter] = {
    "tree": _tree,
    "pines": _pines,
    "house": _house,
    "windmill": _windmill,
    "cactus": _cactus,
    "palm": _palm,
    "balloon": _balloon,
    "sailboat": _sailboat,
    "lighthouse": _lighthouse,
}
