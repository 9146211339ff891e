"""Pictures as clients hand them over."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BLUE, ORANGE = (40, 80, 160), (250, 120, 30)


def data_of(image: dict[str, Any]) -> bytes:
    """The encoded picture: its bytes, or what its data URI holds."""
    if "content" in image:
        return bytes(image["content"])
    head, data = image["url"].split(",")
    assert head == f"data:{image['content_type']};base64"
    return base64.b64decode(data)


def decoded(image: dict[str, Any]) -> Image.Image:
    """Decoded to its end, and of the kind and the size that it says."""
    picture = Image.open(io.BytesIO(data_of(image)))
    picture.load()
    assert picture.get_format_mimetype() == image["content_type"]
    assert picture.size == (image["width"], image["height"])
    return picture


def pixels(image: dict[str, Any]) -> NDArray[np.int16]:
    return np.asarray(decoded(image).convert("RGB"), np.int16)


def off(image: dict[str, Any], other: dict[str, Any]) -> int:
    """By how much two pictures differ at most, of 255."""
    return int(np.abs(pixels(image) - pixels(other)).max())


def png(colour: tuple[int, int, int], side: int = 128) -> bytes:
    return encoded(Image.new("RGB", (side, side), colour))


def white_left_half() -> bytes:
    """A mask of fal's: white is painted anew."""
    mask = Image.new("L", (128, 128))
    mask.paste(255, (0, 0, 64, 128))
    return encoded(mask)


def clear_left_half() -> bytes:
    """A mask of OpenAI's: what is transparent is painted anew."""
    mask = Image.new("RGBA", (128, 128), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 64, 128))
    return encoded(mask)


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def in_base64(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    image.load()
    return image


def warmth(image: Image.Image) -> float:
    """By how much there is more red than blue in it, of 255."""
    red, _, blue = np.asarray(image.convert("RGB"), np.float64).mean((0, 1))
    return float(red - blue)


def check_right_half_is_kept(image: Image.Image, colour: tuple[int, int, int]) -> None:
    """That a picture of one colour was painted anew to the left of its middle alone."""
    made = np.asarray(image.convert("RGB"), np.int16)
    away = np.abs(made - np.array(colour, np.int16)).mean((0, 2))
    assert away[:56].mean() > 3 * away[72:].mean()
    assert away[72:].mean() < 15  # it went through the autoencoder
