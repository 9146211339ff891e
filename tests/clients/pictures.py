"""Pictures as clients hand them over."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


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
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()
