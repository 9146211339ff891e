"""Any image as a browser shows it: in sRGB, on a white page."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from glimpse.input_pictures import icc
from glimpse.input_pictures.icc import Transform

BAND_PIXELS = 2**18
"""Converted at a time. Pillow keeps the interpreter's lock meanwhile, for about a millisecond."""


def on_white(image: Image.Image, profile: bytes | None, bits: int) -> Image.Image:
    """An image of any mode in RGB. What is transparent shows white.

    `bits` are those of a sample in the file, which count for a transparent grey.
    """
    return composed(image, profile, bits, "white")


def composed(image: Image.Image, profile: bytes | None, bits: int, page: str) -> Image.Image:
    """The same on a page of some colour."""
    transform = _transform(image, profile)
    if image.mode == "RGB" and transform is None and "transparency" not in image.info:
        return image
    shown = Image.new("RGB", image.size)
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        colours, alpha = _split(image.crop(box), bits)
        if transform is not None and colours.mode == transform[0]:
            rgb = transform[1](colours)
        elif transform is not None:  # a profile for RGB counts for grey as well
            rgb = transform[1](colours.convert("RGB"))
        else:
            rgb = colours.convert("RGB")
        if alpha is None:
            shown.paste(rgb, box)
        else:
            shown.paste(page, box)
            shown.paste(rgb, box, alpha)
    return shown


def alpha(image: Image.Image, bits: int) -> Image.Image:
    """The alpha channel of any image, L; 255 where it has none."""
    if not image.has_transparency_data:
        return Image.new("L", image.size, 255)
    return _split(image, bits)[1] or Image.new("L", image.size, 255)


def _transform(image: Image.Image, profile: bytes | None) -> tuple[str, Transform] | None:
    """With the mode of the images that it takes."""
    mode = _colour_mode(image)
    if mode == "LAB":
        lab = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return mode, lambda image: icc.apply(lab, image)
    for candidate in (mode, "RGB") if mode == "L" else (mode,):
        transform = icc.to_srgb(profile, candidate)
        if transform is not None:
            return candidate, transform
    return None


def _colour_mode(image: Image.Image) -> str:
    """Of what `_split` makes of the image."""
    if image.mode in ("CMYK", "LAB"):
        return image.mode
    return "L" if image.mode in ("1", "L", "LA", "La", "I;16", "I;16B", "I", "F") else "RGB"


def _split(part: Image.Image, bits: int) -> tuple[Image.Image, Image.Image | None]:
    """Colours in 8 bits, L, RGB, CMYK or LAB, and the alpha channel, L; None where there is
    none."""
    key = part.info.get("transparency")
    match part.mode:
        case "CMYK" | "LAB":
            return part, None
        case "LA" | "La":
            grey, alpha = part.convert("LA").split()
            return grey, alpha
        case "1" | "L":
            return part.convert("L"), _keyed(np.asarray(part.convert("L")), _eight_bits(key, bits))
        case "I;16" | "I;16B" | "I" | "F":
            grey16 = np.asarray(part).clip(0, 65535).astype(np.uint16)
            return Image.fromarray((grey16 >> 8).astype(np.uint8)), _keyed(grey16, key)
        case "RGB" if key is not None:
            key = key if bits <= 8 else tuple(each >> 8 for each in key)
            return part, _keyed(np.asarray(part), key)
        case "RGB":
            return part, None
        case _ if part.has_transparency_data:
            rgba = part.convert("RGBA")
            return rgba.convert("RGB"), rgba.getchannel("A")
        case _:
            return part.convert("RGB"), None


def _eight_bits(key: object, bits: int) -> object:
    """A transparent grey of 2 or 4 bits, as Pillow scales the pixels; of 1 bit it scales both."""
    return key * 255 // (2**bits - 1) if isinstance(key, int) and bits in (2, 4) else key


def _keyed(pixels: NDArray[Any], key: object) -> Image.Image | None:
    """An alpha channel of 0 where pixels have the transparent colour, and 255 elsewhere."""
    if key is None:
        return None
    same = pixels == np.asarray(key)
    if same.ndim == 3:
        same = same.all(axis=2)
    return Image.fromarray(np.where(same, 0, 255).astype(np.uint8))
