"""Many ways to say what a scene shows; every call words it afresh."""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import ascii_lowercase

from training.scenes import Scene

_TIMES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    # (phrases that follow a noun, words that stand alone in a comma-separated list)
    "dawn": (
        ("at dawn", "at sunrise", "early in the morning", "in the early morning", "at daybreak",
         "in the morning", "at first light"),
        ("dawn", "sunrise", "early morning", "morning light", "morning", "pastel sky"),
    ),
    "day": (
        ("by day", "during the day", "at noon", "in the daytime", "in daylight", "at midday",
         "in the afternoon", "on a bright day"),
        ("day", "daytime", "noon", "daylight", "midday", "afternoon"),
    ),
    "sunset": (
        ("at sunset", "at dusk", "in the evening", "at sundown", "during sunset",
         "at golden hour", "in the evening light"),
        ("sunset", "dusk", "evening", "golden hour", "sundown", "orange sky"),
    ),
    "night": (
        ("at night", "by night", "in the night", "after dark", "at midnight", "late at night"),
        ("night", "nighttime", "midnight", "dark night", "night sky"),
    ),
}  # fmt: skip
_BACKGROUNDS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    # (places for an object, landscapes as a subject of their own)
    "mountains": (
        ("in the mountains", "in front of mountains", "near the mountains", "below the peaks",
         "with mountains behind", "in the alps", "in an alpine valley", "at the foot of mountains"),
        ("mountains", "a mountain landscape", "a mountain range", "high mountains", "alps",
         "mountain peaks", "an alpine landscape", "the mountains"),
    ),
    "hills": (
        ("on green hills", "on a hill", "in the hills", "among rolling hills", "on a meadow",
         "in a green valley", "in the countryside", "on a grassy hill"),
        ("hills", "rolling hills", "green hills", "a hilly landscape", "meadows",
         "the countryside", "grassy hills", "a green valley"),
    ),
    "sea": (
        ("by the sea", "at the sea", "on the sea", "on the ocean", "at the coast", "by the ocean",
         "near the water", "on the shore", "over the sea"),
        ("the sea", "sea", "the ocean", "ocean", "a seascape", "the coast", "calm water",
         "a seashore"),
    ),
    "desert": (
        ("in the desert", "in a desert", "among dunes", "on sand dunes", "in a sandy desert",
         "in the sand", "among the dunes"),
        ("a desert", "desert", "the desert", "sand dunes", "dunes", "a sandy desert",
         "a desert landscape"),
    ),
    "city": (
        ("in the city", "in a city", "in front of a skyline", "in town", "in a park in the city",
         "near skyscrapers", "with a skyline behind", "downtown"),
        ("a city", "city", "a skyline", "the city", "a city skyline", "tall buildings", "a town",
         "skyscrapers"),
    ),
}  # fmt: skip
_OBJECTS: dict[str, Sequence[str]] = {
    "tree": ("tree", "leafy tree", "big tree", "lone tree"),
    "pines": ("pine trees", "pines", "fir trees", "three pines", "evergreen trees", "conifers"),
    "house": ("house", "cottage", "cabin", "small house", "home"),
    "windmill": ("windmill", "old windmill", "mill", "dutch windmill"),
    "cactus": ("cactus", "saguaro cactus", "tall cactus", "saguaro"),
    "palm": ("palm tree", "palm", "coconut palm", "tropical palm tree"),
    "balloon": ("hot air balloon", "balloon", "hot-air balloon", "flying balloon"),
    "sailboat": ("sailboat", "sailing boat", "boat", "sail boat", "yacht", "sailing ship"),
    "lighthouse": ("lighthouse", "striped lighthouse", "tall lighthouse", "beacon"),
}
_COLOURED_PARTS = {
    "sailboat": ("{a} with {colour} sails", "{a} with a {colour} sail"),
    "tree": ("{a} with {colour} leaves",),
    "house": ("{a} with {colour} walls",),
    "balloon": (),
    "lighthouse": ("{a} with {colour} stripes",),
}
_TREE_COLOURS = {"orange": ("orange", "autumn"), "pink": ("pink", "blossoming", "cherry blossom")}
_SIDES: dict[str, Sequence[str]] = {
    "left": ("on the left", "on the left side", "to the left", "at the left", "left"),
    "center": ("in the middle", "in the center", "in the centre", "centered", "center"),
    "right": ("on the right", "on the right side", "to the right", "at the right", "right"),
}
_WEATHERS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "clear": (
        ("under a clear sky", "in clear weather", "under a cloudless sky", "in fine weather"),
        ("clear sky", "clear weather", "cloudless sky", "clear"),
    ),
    "cloudy": (
        ("under a cloudy sky", "under clouds", "in cloudy weather", "with clouds in the sky"),
        ("cloudy", "clouds", "cloudy sky", "overcast", "fluffy clouds"),
    ),
    "rain": (
        ("in the rain", "in rain", "on a rainy day", "in rainy weather", "during a rain shower"),
        ("rain", "rainy", "raining", "heavy rain", "rainy weather"),
    ),
    "snow": (
        ("in the snow", "in snow", "in winter", "in falling snow", "covered in snow",
         "while it snows"),
        ("snow", "snowy", "winter", "snowing", "snowfall", "falling snow"),
    ),
    "fog": (
        ("in the fog", "in fog", "in the mist", "in foggy weather", "shrouded in mist"),
        ("fog", "foggy", "mist", "misty", "haze"),
    ),
}  # fmt: skip
_WEATHER_ADJECTIVES = {
    "cloudy": ("cloudy", "overcast"),
    "rain": ("rainy",),
    "snow": ("snowy", "snow-covered", "wintry"),
    "fog": ("foggy", "misty"),
    "clear": ("clear",),
}
_MOONS: dict[str, Sequence[str]] = {
    "full": ("a full moon", "full moon", "a big round moon", "a bright full moon"),
    "crescent": ("a crescent moon", "crescent moon", "a thin moon", "a sickle moon"),
}
_PREFIXES = (
    "a photo of", "a painting of", "a picture of", "an illustration of", "a drawing of", "photo of",
    "painting of", "a view of", "an image of", "a beautiful picture of", "a postcard of",
    "a watercolor of", "digital art of", "a storybook illustration of",
)  # fmt: skip
_SUFFIXES = (
    "digital art", "highly detailed", "beautiful", "4k", "masterpiece", "illustration", "painting",
    "flat design", "vector art", "high quality", "wallpaper", "storybook style", "peaceful",
)  # fmt: skip
# Words people add to prompts, which must do no harm.
_NOISE_WORDS = (
    "epic", "trending", "artstation", "unreal", "engine", "8k", "hdr", "ultra", "realistic",
    "sharp", "focus", "cinematic", "lighting", "dramatic", "studio", "ghibli", "style", "by",
    "van", "gogh", "award", "winning", "best", "quality", "render", "octane", "detailed", "cute",
    "robot", "dog", "cat", "dragon", "woman", "man", "people", "car", "horse", "flying", "happy",
    "sad", "magic", "fantasy", "neon", "cyberpunk", "steampunk", "minimal", "abstract", "oil",
    "acrylic", "pencil", "anime", "pixel", "lowpoly", "3d", "vintage", "retro", "modern", "ancient",
    "very", "really", "please", "show", "me", "make", "with", "and", "of", "from", "some",
)  # fmt: skip


def caption(
    scene: Scene, rng: random.Random, *, noise: float = 0.15, complete: bool = False
) -> str:
    """Words for the scene. `complete` names time, background, object and weather in any case.

    With probability `noise` one to five words that mean nothing here are mixed in.
    """
    say = _Wording(scene, rng, complete)
    build = rng.choices((_sentence, _landscape_first, _listing), (5, 3, 4))[0]
    text = build(say)
    if rng.random() < 0.25:
        text = f"{rng.choice(_PREFIXES)} {text}"
    if rng.random() < 0.2:
        text = f"{text}, {rng.choice(_SUFFIXES)}"
    if rng.random() < noise:
        text = _with_noise(text, rng)
    return text.capitalize() if rng.random() < 0.15 else text


class _Wording:
    """One set of decisions on what is said, and the phrases for it."""

    def __init__(self, scene: Scene, rng: random.Random, complete: bool) -> None:
        self.scene = scene
        self.rng = rng
        self.has_object = scene.object != "none"
        self.says_time = complete or rng.random() > 0.08
        # Nobody says that the sky is clear as often as that it rains.
        silence = 0.45 if scene.weather == "clear" else 0.06
        self.says_weather = complete or rng.random() > silence
        self._says_colour = scene.colour is not None and rng.random() > 0.12
        self._says_side = scene.side is not None and rng.random() > 0.45
        self._says_moon = scene.moon is not None and rng.random() > 0.3

    def thing(self) -> str:
        scene, rng = self.scene, self.rng
        noun = rng.choice(_OBJECTS[scene.object])
        colour = scene.colour if self._says_colour else None
        if colour is None:
            return _with_article(noun, rng)
        if scene.object == "tree":
            colour = rng.choice(_TREE_COLOURS.get(colour, (colour,)))
        parts = _COLOURED_PARTS[scene.object]
        if parts and rng.random() < 0.25 and colour in (scene.colour,):
            return rng.choice(parts).format(a=_with_article(noun, rng), colour=colour)
        return _with_article(f"{colour} {noun}", rng)

    def side(self) -> str | None:
        return self.rng.choice(_SIDES[self.scene.side or ""]) if self._says_side else None

    def moon(self) -> str | None:
        return self.rng.choice(_MOONS[self.scene.moon or ""]) if self._says_moon else None

    def time(self, *, alone: bool) -> str | None:
        return self.rng.choice(_TIMES[self.scene.time][alone]) if self.says_time else None

    def weather(self, *, alone: bool) -> str | None:
        return self.rng.choice(_WEATHERS[self.scene.weather][alone]) if self.says_weather else None

    def place(self) -> str:
        return self.rng.choice(_BACKGROUNDS[self.scene.background][0])

    def landscape(self) -> str:
        return self.rng.choice(_BACKGROUNDS[self.scene.background][1])


def _sentence(say: _Wording) -> str:
    """A red house on green hills at dawn in the rain, on the left."""
    if not say.has_object:
        return _landscape_first(say)
    tail = [say.place(), say.time(alone=False), say.weather(alone=False)]
    say.rng.shuffle(tail)
    side, moon = say.side(), say.moon()
    words = [say.thing()]
    if side and say.rng.random() < 0.5:
        words.append(side)
        side = None
    words += [part for part in tail if part]
    if moon:
        words.append(f"{say.rng.choice(('with', 'under'))} {moon}")
    return " ".join(words) + (f", {side}" if side else "")


def _landscape_first(say: _Wording) -> str:
    """Snowy mountains at dawn, a house on the left."""
    rng = say.rng
    landscape, weather = say.landscape(), say.weather(alone=False)
    if weather and rng.random() < 0.5:
        landscape = _qualified(landscape, rng.choice(_WEATHER_ADJECTIVES[say.scene.weather]))
        weather = None
    tail = [say.time(alone=False), weather]
    rng.shuffle(tail)
    text = " ".join([landscape, *(part for part in tail if part)])
    side, moon = say.side(), say.moon()
    if say.has_object:
        joint = rng.choice((", ", " with ", " and ", ", with "))
        text = f"{text}{joint}{say.thing()}" + (f" {side}" if side else "")
    return f"{text} {rng.choice(('with', 'and', 'under'))} {moon}" if moon else text


def _listing(say: _Wording) -> str:
    """red house, hills, dawn, rain, on the left."""
    parts = [say.landscape(), say.time(alone=True), say.weather(alone=True), say.moon()]
    if say.has_object:
        parts += [say.thing(), say.side()]
    said = [part for part in parts if part]
    say.rng.shuffle(said)
    return ", ".join(said)


def _qualified(landscape: str, adjective: str) -> str:
    for article in ("a ", "an ", "the "):
        if landscape.startswith(article):
            rest = landscape.removeprefix(article)
            return f"{'the' if article == 'the ' else _a(adjective)} {adjective} {rest}"
    return f"{adjective} {landscape}"


def _with_article(noun: str, rng: random.Random) -> str:
    if noun.endswith("s") and not noun.endswith("cactus"):
        return rng.choice((noun, f"some {noun}", noun))
    roll = rng.random()
    if roll < 0.65:
        return f"{_a(noun)} {noun}"
    return f"the {noun}" if roll < 0.75 else noun


def _a(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _with_noise(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    for _ in range(rng.randint(1, 5)):
        word = rng.choice(_NOISE_WORDS)
        if rng.random() < 0.3:
            word = "".join(rng.choices(ascii_lowercase, k=rng.randint(2, 8)))
        # The ends are where people put them; inside a phrase a word can change its meaning.
        words.insert(rng.choice((0, len(words), rng.randint(0, len(words)))), word)
    return " ".join(words)
