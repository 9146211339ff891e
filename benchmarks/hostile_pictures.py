"""Input pictures that a client may send to cost a server as much as it lets it."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from config.settings import AppSettings

SEED = 7


def costly_pictures(settings: AppSettings) -> dict[str, bytes]:
    """Pictures that are accepted and cost as much as the limits of their format let them."""
    side = int(settings.ingress.max_input_pixels**0.5)
    photograph = noise(side // 16, side // 16).resize((side, side), Image.Resampling.BICUBIC)
    alpha = noise(side // 16, side // 16).convert("L").resize((side, side))
    translucent = Image.merge("RGBA", (*photograph.split(), alpha))
    huge = photograph.resize((10 * 1024, 10 * 1024))
    made: dict[str, Callable[[], bytes]] = {
        "JPEG, 100 Mi pixels": lambda: encoded(huge, "JPEG", quality=30),
        "progressive JPEG, 50 Mi pixels": lambda: encoded(
            huge.crop((0, 0, 10 * 1024, 5 * 1024)), "JPEG", quality=30, progressive=True
        ),
        "PNG": lambda: encoded(photograph.quantize(64), "PNG"),
        "PNG with transparency": lambda: encoded(translucent.quantize(64), "PNG"),
        "WebP": lambda: encoded(photograph, "WEBP", quality=50, method=0),
        "WebP with transparency": lambda: encoded(translucent, "WEBP", quality=50, method=0),
        "lossless WebP": lambda: encoded(photograph.quantize(64).convert("RGB"), "WEBP",
                                          lossless=True, method=0),
        "AVIF": lambda: encoded(photograph, "AVIF", speed=10, quality=50),
    }  # fmt: skip
    most = settings.ingress.max_input_bytes
    return {name: data for name, make in made.items() if len(data := make()) <= most}


def refused_pictures() -> dict[str, bytes]:
    """Pictures that are refused for what their header or their markers say."""
    scan = encoded(noise(64, 64), "JPEG", progressive=True)
    last = scan.rindex(b"\xff\xda")
    again = scan[last : last + 2 + int.from_bytes(scan[last + 2 : last + 4])]
    frame = scan.index(b"\xff\xc2") + 5
    large = scan[:frame] + (8192).to_bytes(2) * 2 + scan[frame + 4 : -2]
    return {
        "JPEG, 150 empty scans": large + again * 150 + b"\xff\xd9",
        "JPEG, 8 MB of empty scans": large + again * (8 * 2**20 // len(again)) + b"\xff\xd9",
        "JPEG, cut off": encoded(noise(2048, 2048), "JPEG")[:-100],
        "PNG, too large": encoded(Image.new("1", (16384, 16384)), "PNG"),
        "no picture": bytes(8 * 2**20),
    }


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(SEED).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, picture_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, picture_format, **options)
    return buffer.getvalue()
