"""HEIC for Pillow, by libheif."""

from functools import cache

import pi_heif


@cache
def register() -> None:
    """Decoding has one thread: what a picture costs others is bounded."""
    pi_heif.register_heif_opener(thumbnails=False, decode_threads=1)
