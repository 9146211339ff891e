"""Hundreds of pictures that the installed Pillow makes, and PNG files that it cannot write."""

import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from glimpse.input_pictures import icc
from tests.strange_pictures import chunk, encoded, with_chunks

ADOBE_RGB = icc.profile_of(
    ((0.3127, 0.3290), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), (0, (2.199,))
)
PROFILES = {
    "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "Display P3": icc.of_cicp(12, 13, icc.SRGB_CURVE),
    "Adobe RGB": ADOBE_RGB,
    "BT.2020": icc.of_cicp(9, 14, icc.BT1886_CURVE),
    "linear": icc.profile_of(icc.SRGB_PRIMARIES, (0, (1.0,))),
    "broken": (ADOBE_RGB or b"")[:150],
}
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the colour type of a PNG
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    """An encoded picture, and its size turned upright."""

    name: str
    data: bytes
    size: tuple[int, int]


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Soft colours, a shape in each corner, and an alpha channel that goes down to nothing."""
    y, x = np.mgrid[0:height, 0:width] / (max(height - 1, 1), max(width - 1, 1))[0]
    red, green = 40 + 180 * x / max(x.max(), 1), 60 + 150 * y / max(y.max(), 1)
    blue = 128 + 90 * np.sin(3 * x + 2 * y)
    alpha = 255 * np.clip(1.5 * x / max(x.max(), 1), 0, 1)
    image = Image.fromarray(np.stack([red, green, blue, alpha], -1).astype(np.uint8))
    image.paste((220, 30, 40, 255), (0, 0, width // 4, height // 4))
    image.paste((20, 200, 60, 0), (width - width // 4, 0, width, height // 4))
    match mode:
        case "RGBA":
            return image
        case "I;16":
            return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
        case "LA":
            return image.convert("LA")
        case _:
            return image.convert("RGB").convert(mode)


def many() -> Iterator[Made]:
    """At least 200 of them."""
    yield from _jpegs()
    yield from _pngs()
    yield from _raw_pngs()
    for picture_format in ("WEBP", "AVIF"):
        yield from _webps_or_avifs(picture_format)


def _jpegs() -> Iterator[Made]:
    sizes = itertools.cycle([(64, 48), (33, 65), (8, 8), (1, 1), (300, 200)])
    for mode, progressive, subsampling, quality in itertools.product(
        ("L", "RGB", "CMYK"), (False, True), ("4:4:4", "4:2:0"), (75, 95)
    ):
        name = f"JPEG {mode} {subsampling} {quality}{' progressive' * progressive}"
        options = {"progressive": progressive, "subsampling": subsampling, "quality": quality}
        yield _made(name, scene(*next(sizes), mode), "JPEG", **options)
    for profile in PROFILES:
        for mode in ("L", "RGB"):
            name = f"JPEG {mode}, profile {profile}"
            yield _made(name, scene(64, 48, mode), "JPEG", icc_profile=PROFILES[profile])
    yield from _turned("JPEG", quality=95)


def _pngs() -> Iterator[Made]:
    for mode, size in itertools.product(
        ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), ((1, 1), (64, 48), (17, 129))
    ):
        yield _made(f"PNG {mode} {size}", scene(*size, mode), "PNG")
    for mode, key in (("L", 100), ("RGB", (40, 60, 128)), ("1", 0), ("1", 255), ("P", 3)):
        image = scene(64, 48, mode)
        if mode == "RGB":
            key = image.getpixel((40, 30))  # type: ignore[assignment]
        yield _made(f"PNG {mode}, transparent {key}", image, "PNG", transparency=key)
    palette = scene(64, 48, "P")
    yield _made("PNG P, alphas", palette, "PNG", transparency=bytes(range(0, 256, 4)))
    for profile, mode in itertools.product(PROFILES, ("L", "P", "RGB", "RGBA")):
        image = scene(64, 48, mode)
        yield _made(f"PNG {mode}, profile {profile}", image, "PNG", icc_profile=PROFILES[profile])
    plain = encoded(scene(64, 48), "PNG")
    see_through = encoded(scene(64, 48, "RGBA"), "PNG")
    chrm = chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
    for name, chunks in {
        "gAMA 1/2.2": chunk(b"gAMA", struct.pack(">I", 45455)),
        "gAMA 1": chunk(b"gAMA", struct.pack(">I", 100_000)),
        "gAMA and cHRM": chunk(b"gAMA", struct.pack(">I", 45455)) + chrm,
        "cHRM alone": chrm,
        "sRGB": chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 100_000)),
        "cICP of Display P3": chunk(b"cICP", bytes([12, 13, 0, 1])),
        "cICP of BT.2020": chunk(b"cICP", bytes([9, 14, 0, 1])),
    }.items():
        yield Made(f"PNG, {name}", with_chunks(plain, chunks), (64, 48))
        yield Made(f"PNG RGBA, {name}", with_chunks(see_through, chunks), (64, 48))
    yield from _turned("PNG")
    frames = [scene(64, 48, "RGBA").rotate(angle) for angle in (0, 90, 180)]
    yield _made("PNG animated", frames[0], "PNG", save_all=True, append_images=frames[1:])


def _raw_pngs() -> Iterator[Made]:
    for colour_type, depths in DEPTHS.items():
        for bits, interlaced in itertools.product(depths, (False, True)):
            name = f"PNG of colour type {colour_type}, {bits} bits{', interlaced' * interlaced}"
            yield _raw_png(name, colour_type, bits, interlaced, keyed=False)
            if colour_type in (0, 2, 3):
                yield _raw_png(f"{name}, keyed", colour_type, bits, interlaced, keyed=True)


def _raw_png(name: str, colour_type: int, bits: int, interlaced: bool, keyed: bool) -> Made:
    """Pillow neither interlaces nor writes every depth."""
    width, height = 40, 28
    pixels = np.asarray(scene(width, height, "RGBA"), np.uint32)
    rgb, alpha = pixels[..., :3], pixels[..., 3:]
    grey = rgb.mean(axis=2, keepdims=True).astype(np.uint32)
    last = 2**bits - 1
    values = {0: grey, 2: rgb, 3: grey, 4: np.concatenate([grey, alpha], 2),
              6: np.concatenate([rgb, alpha], 2)}[colour_type] * last // 255  # fmt: skip
    chunks = b""
    if colour_type == 3:
        ramp = np.linspace(0, 255, last + 1).astype(np.uint8)
        chunks += chunk(b"PLTE", np.stack([ramp, ramp[::-1], ramp // 2], 1).tobytes())
    if keyed and colour_type == 3:
        chunks += chunk(b"tRNS", bytes([0, 128][: last + 1]))
    elif keyed:
        chunks += chunk(b"tRNS", values[height // 2, width // 2].astype(">u2").tobytes())
    passes = [values[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [values]
    rows = b"".join(_packed(each, bits) for each in passes if each.size)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    data = b"".join([chunk(b"IHDR", header), chunks, chunk(b"IDAT", zlib.compress(rows)),
                     chunk(b"IEND", b"")])  # fmt: skip
    return Made(name, b"\x89PNG\r\n\x1a\n" + data, (width, height))


def _packed(values: NDArray[np.uint32], bits: int) -> bytes:
    """Rows of samples, each behind a byte that says that it is not filtered."""
    rows = values.reshape(values.shape[0], -1)
    if bits == 16:
        body = rows.astype(">u2").view(np.uint8).reshape(len(rows), -1)
    else:
        planes = (rows[..., np.newaxis] >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
        body = np.packbits(planes.reshape(len(rows), -1).astype(np.uint8), axis=1)
    return np.hstack([np.zeros((len(rows), 1), np.uint8), body]).tobytes()


def _webps_or_avifs(picture_format: str) -> Iterator[Made]:
    more: dict[str, dict[str, Any]] = (
        {"lossy": {"quality": 90}, "lossless": {"lossless": True}, "exact": EXACT}
        if picture_format == "WEBP"
        else {"4:4:4": {"quality": 90, "subsampling": "4:4:4"}, "4:2:0": {"quality": 90},
              "low": {"quality": 50}}
    )  # fmt: skip
    for mode, how, size in itertools.product(
        ("RGB", "RGBA", "L", "P"), more, ((64, 48), (17, 33), (1, 1))
    ):
        name = f"{picture_format} {mode} {how} {size}"
        yield _made(name, scene(size[0], size[1], mode), picture_format, **more[how])
    for profile, mode in itertools.product(PROFILES, ("RGB", "RGBA")):
        options = {"icc_profile": PROFILES[profile], "quality": 95}
        name = f"{picture_format} {mode}, profile {profile}"
        yield _made(name, scene(64, 48, mode), picture_format, **options)
    yield from _turned(picture_format, quality=95)
    if picture_format == "AVIF":
        yield from _avifs_of_numbered_colours()
    frames = [scene(64, 48, "RGBA").rotate(angle) for angle in (0, 90, 180)]
    animation: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "quality": 95}
    yield _made(f"{picture_format} animated", frames[0], picture_format, **animation)


def _avifs_of_numbered_colours() -> Iterator[Made]:
    """Pillow writes those of sRGB."""
    data = encoded(scene(64, 48), "AVIF", quality=95)
    at = data.index(b"nclx") + 4
    for primaries, transfer in ((1, 1), (2, 2), (12, 13), (9, 14), (5, 4), (11, 8), (6, 6)):
        numbers = struct.pack(">HH", primaries, transfer)
        changed = data[:at] + numbers + data[at + 4 :]
        yield Made(f"AVIF of colours {primaries}, {transfer}", changed, (64, 48))


EXACT = {"lossless": True, "exact": True}


def _turned(picture_format: str, **options: Any) -> Iterator[Made]:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(scene(64, 48), picture_format, exif=exif, **options)
        lies = orientation >= 5 and picture_format != "WEBP"  # of which browsers turn none
        size = (48, 64) if lies else (64, 48)
        yield Made(f"{picture_format}, orientation {orientation}", data, size)


def _made(name: str, image: Image.Image, picture_format: str, **options: Any) -> Made:
    return Made(name, encoded(image, picture_format, **options), image.size)
