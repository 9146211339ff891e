"""`glimpse.input_pictures.reading` and `.colours`: a picture as a browser shows it."""

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from glimpse.errors import InvalidRequest
from glimpse.input_pictures import colours, icc
from glimpse.input_pictures.inspection import inspect
from glimpse.input_pictures.reading import Pixels, read_pixels
from tests.many_pictures import many
from tests.strange_pictures import (
    CUT_OFF,
    HEIC,
    MANY,
    NOT_TAKEN,
    READABLE,
    chunk,
    encoded,
    field_file,
    with_chunks,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)
SOFT = Image.new("RGB", (8, 8), (160, 110, 90))
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF"]
LINEAR = icc.profile_of(icc.SRGB_PRIMARIES, (0, (1.0,)))


def read(data: bytes, width: int | None = None, height: int | None = None) -> Pixels:
    seen = inspect(data, "image_url", 2**24)
    return read_pixels(seen, width or seen.width, height or seen.height)


def striped(width: int = 60, height: int = 40) -> Image.Image:
    """Red to the left, blue to the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def means(pixels: Pixels) -> Any:
    return pixels.reshape(-1, 3).mean(axis=0)


# Size, crop and orientation


@pytest.mark.parametrize("picture_format", FORMATS)
def test_a_picture_of_the_right_size_is_left_as_it_is(picture_format: str) -> None:
    data = encoded(striped(), picture_format)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(read(data), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("width", "height"), [(40, 40), (120, 20), (30, 20), (16, 64), (7, 5)])
def test_it_is_cropped_in_the_middle_to_cover_the_size(width: int, height: int) -> None:
    image = Image.radial_gradient("L").convert("RGB").resize((60, 40))
    expected = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = read(encoded(image, "PNG"), width, height)
    assert pixels.shape == (height, width, 3)
    assert np.abs(pixels - np.asarray(expected, np.int16)).max() <= 2


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shrunk", [1, 2])
def test_it_is_turned_as_its_camera_says(
    picture_format: str, orientation: int, shrunk: int
) -> None:
    image = striped(64, 48)
    image.paste((0, 255, 0), (0, 24, 32, 48))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    expected = ImageOps.exif_transpose(image)
    size = expected.width // shrunk, expected.height // shrunk
    pixels = read(encoded(image, picture_format, exif=exif, quality=95), *size)
    off = np.abs(pixels - np.asarray(expected.resize(size), np.int16))
    assert off.mean() < 4  # or a corner has another colour


def test_a_large_jpeg_is_read_at_a_fraction_of_its_size_and_stays_as_sharp() -> None:
    image = Image.effect_noise((160, 120), 60).convert("RGB").resize((1600, 1200))
    pixels = read(encoded(image, "JPEG", quality=95), 160, 120)
    expected = image.resize((160, 120), Image.Resampling.LANCZOS)
    assert np.abs(pixels - np.asarray(expected, np.int16)).mean() < 4


# Transparency


@pytest.mark.parametrize("size", [(60, 40), (30, 20)])
@pytest.mark.parametrize("picture_format", ["PNG", "WEBP", "AVIF"])
def test_colours_hidden_under_transparency_never_show(
    picture_format: str, size: tuple[int, int]
) -> None:
    image = striped().convert("RGBA")
    image.putalpha(0)
    image.paste((*RED, 255), (0, 0, 60, 10))
    options = {"lossless": True, "exact": True} if picture_format == "WEBP" else {"quality": 100}
    pixels = read(encoded(image, picture_format, **options), *size)
    assert pixels[-size[1] // 2 :].min() > 250
    assert (pixels[0, 0] >= (250, 0, 0)).all() and (pixels[0, 0, 1:] < 6).all()


def half_transparent(mode: str) -> Image.Image:
    """Black; the left half is fully transparent, the rest is not at all."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    image.paste((9, 9, 9, 0), (0, 0, 4, 8))
    if mode == "P":
        indices = Image.new("P", (8, 8), 1)
        indices.putpalette([9, 9, 9, 0, 0, 0])
        indices.paste(0, (0, 0, 4, 8))
        indices.info["transparency"] = 0
        return indices
    if mode == "PA":
        indices = Image.new("RGB", (8, 8)).convert("P").convert("PA")
        indices.putalpha(image.getchannel("A"))
        return indices
    return (image.convert("LA") if mode == "La" else image).convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "P", "PA"])
def test_every_mode_with_transparency_is_composed_on_white(mode: str) -> None:
    shown = np.asarray(colours.on_white(half_transparent(mode), None, 8))
    assert (shown[:, :4] == 255).all()
    assert (shown[:, 4:] < 10).all()


@pytest.mark.parametrize(
    ("image", "key", "transparent"),
    [
        (Image.new("L", (4, 4), 100), 100, True),
        (Image.new("L", (4, 4), 100), 99, False),
        (Image.new("RGB", (4, 4), RED), RED, True),
        (Image.new("RGB", (4, 4), RED), BLUE, False),
        (Image.new("1", (4, 4), 0), 0, True),
        (Image.new("1", (4, 4), 0), 255, False),
        (Image.fromarray(np.full((4, 4), 25700, np.uint16)), 25700, True),
        (Image.fromarray(np.full((4, 4), 25700, np.uint16)), 25701, False),
    ],
)
def test_a_transparent_colour_shows_white(image: Image.Image, key: Any, transparent: bool) -> None:
    shown = read(encoded(image, "PNG", transparency=key))
    assert (shown == 255).all() == transparent


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_shows_white(bits: int) -> None:
    last = 2**bits - 1
    header = struct.pack(">IIBBBBB", 8 // bits, 1, bits, 0, 0, 0, 0)
    row = zlib.compress(bytes([0, 0b11111111 >> bits]))  # the first pixel is 0
    body = chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", last))
    data = b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", row) + chunk(b"IEND", b"")
    pixels = read(data)
    assert (pixels[0, 0] == 0).all() and (pixels[0, 1:] == 255).all()


def test_half_transparent_colours_are_mixed_with_white() -> None:
    shown = read(encoded(Image.new("RGBA", (4, 4), (255, 0, 100, 51)), "PNG"))
    assert np.abs(shown[0, 0] - np.array([255, 204, 224])).max() <= 1


def test_black_text_on_transparent_is_black_on_white() -> None:
    pixels = read(field_file("black_text_on_transparent.png"))
    assert pixels.max() == 255 and pixels.min() < 20 and pixels.mean() > 200


def test_hidden_colours_of_a_real_file() -> None:
    pixels = read(field_file("hidden_colours_under_transparency.png"))
    assert means(pixels) == pytest.approx((244.7, 212.8, 214.7), abs=0.1)


# Modes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_grey_stays_grey_in_every_mode(mode: str) -> None:
    level = 255 if mode == "1" else 204  # which the usual palette has
    grey = Image.fromarray(np.full((8, 8), level * 257, np.uint16))
    image = grey if mode == "I;16" else Image.new("RGB", (8, 8), (level,) * 3).convert(mode)
    pixels = read(encoded(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert np.abs(pixels.astype(int) - level).max() <= 2


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "LAB", "I", "F"])
def test_modes_that_only_other_formats_have_are_shown_as_well(mode: str) -> None:
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        image = ImageCms.applyTransform(SOFT, to_lab)
        assert image is not None
    elif mode in "IF":
        image = Image.fromarray(np.full((8, 8), 65535, np.int32 if mode == "I" else np.float32))
    else:
        image = SOFT.convert(mode)
    shown = np.asarray(colours.on_white(image, None, 8), np.int16)
    expected = np.asarray(SOFT, np.int16) if mode not in "IF" else 255
    assert np.abs(shown - expected).max() <= 4


# Profiles


def test_the_profile_of_a_real_file_is_converted_to_srgb() -> None:
    pixels = read(field_file("profiled_small.jpg"))
    assert means(pixels) == pytest.approx((93.8, 97.1, 85.9), abs=1)


@pytest.mark.parametrize("picture_format", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_format_has_its_profile_counted(picture_format: str, mode: str) -> None:
    if picture_format == "JPEG" and mode == "RGBA":
        mode = "RGB"
    image = Image.new(mode, (16, 16), (64, 64, 64))
    options = {"lossless": True} if picture_format == "WEBP" else {"quality": 100}
    pixels = read(encoded(image, picture_format, icc_profile=LINEAR, **options))
    # A quarter of the light is 0.537 in sRGB.
    assert means(pixels) == pytest.approx((137, 137, 137), abs=3)


def test_colours_are_converted_before_they_are_mixed_with_white() -> None:
    image = Image.new("RGBA", (16, 16), (64, 64, 64, 128))
    pixels = read(encoded(image, "PNG", icc_profile=LINEAR))
    assert means(pixels) == pytest.approx((196, 196, 196), abs=2)


def test_a_profile_of_greys_and_one_of_colours_for_greys() -> None:
    grey = bytearray(LINEAR or b"")
    assert (read(encoded(Image.new("L", (4, 4), 64), "PNG", icc_profile=LINEAR)) == 137).all()
    grey[16:20] = b"GRAY"  # without a curve for grey it is broken
    assert (read(encoded(Image.new("L", (4, 4), 64), "PNG", icc_profile=bytes(grey))) == 64).all()


@pytest.mark.parametrize(
    "profile",
    [b"", b"x", bytes(128), (LINEAR or b"")[:200], b"x" * 3_000_000, (LINEAR or b"") + b"x"],
)
@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP"])
def test_a_broken_profile_is_no_profile(picture_format: str, profile: bytes) -> None:
    image = Image.new("RGB", (4, 4), (64, 64, 64))
    data = encoded(image, picture_format, icc_profile=profile, quality=100)
    assert np.abs(means(read(data)) - 64).max() <= 2 or profile.startswith(LINEAR or b"-")


@pytest.mark.parametrize("kind", ["CMYK", "LAB", "GRAY"])
def test_a_profile_for_other_colours_is_no_profile(kind: str) -> None:
    profile = bytearray(LINEAR or b"")
    profile[16:20] = kind.ljust(4).encode()
    pixels = read(
        encoded(Image.new("RGB", (4, 4), (64, 64, 64)), "PNG", icc_profile=bytes(profile))
    )
    assert (pixels == 64).all()


def test_srgb_itself_changes_no_pixel() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))
    assert np.array_equal(read(encoded(noise, "PNG", icc_profile=srgb)), np.asarray(noise))
    ours = icc.profile_of(icc.SRGB_PRIMARIES, icc.SRGB_CURVE)
    assert np.array_equal(read(encoded(noise, "PNG", icc_profile=ours)), np.asarray(noise))


GAMMA_1 = chunk(b"gAMA", struct.pack(">I", 100_000))
P3_LINEAR = chunk(b"cICP", bytes([12, 8, 0, 1]))


@pytest.mark.parametrize(
    ("chunks", "level"),
    [
        ([GAMMA_1], 137),
        ([GAMMA_1, chunk(b"sRGB", b"\0")], 64),
        ([chunk(b"gAMA", struct.pack(">I", 0))], 64),
        ([chunk(b"gAMA", b"\0")], 64),
        ([P3_LINEAR], 137),
        ([chunk(b"cICP", bytes([12, 16, 0, 1]))], 64),  # HDR is left as it is
        ([chunk(b"cICP", b"")], 64),
        ([GAMMA_1[:-1] + b"x"], 64),  # a wrong checksum
    ],
)
def test_chunks_of_png_that_tell_the_colours(chunks: list[bytes], level: int) -> None:
    data = with_chunks(encoded(Image.new("RGB", (4, 4), (64,) * 3), "PNG"), *chunks)
    assert np.abs(means(read(data)) - level).max() <= 1


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"zTXt", b"k\0\0" + b"broken"),
        chunk(b"iCCP", b"name\0\1x"),
        chunk(b"cHRM", b"\0" * 32) + GAMMA_1[:-1] + b"x",
        chunk(b"pHYs", b""),
        chunk(b"acTL", b"x"),
        chunk(b"teST", bytes(1000)),
    ],
)
def test_damage_in_what_may_be_skipped_is_none_of_the_pictures(chunks: bytes) -> None:
    whole = encoded(striped(), "PNG")
    assert np.array_equal(read(with_chunks(whole, chunks)), read(whole))


# Animations, odd and damaged files


@pytest.mark.parametrize("picture_format", ["PNG", "WEBP", "AVIF"])
def test_the_first_picture_of_an_animation_is_taken(picture_format: str) -> None:
    options = {"lossless": True} if picture_format == "WEBP" else {"quality": 100}
    data = encoded(MANY[0], picture_format, save_all=True, append_images=MANY[1:], **options)
    assert np.abs(read(data) - np.asarray(MANY[0], np.int16)).mean() < 2


@pytest.mark.parametrize("kind", READABLE)
def test_pictures_of_every_kind_are_read_at_any_size(kind: str) -> None:
    for size in ((64, 64), (8, 200), (1, 1)):
        assert read(READABLE[kind], *size).shape == (size[1], size[0], 3)


def test_hundreds_of_pictures_have_their_size_and_are_read_at_any_other() -> None:
    """tests/clients/test_pictures_in_chromium.py holds them against a browser."""
    made = [*many()]
    assert len(made) >= 200
    for each in made:
        seen = inspect(each.data, "image_url", 2**24)
        assert (seen.width, seen.height) == each.size, each.name
        assert read_pixels(seen, *each.size).shape == (*each.size[::-1], 3), each.name
        assert read_pixels(seen, 24, 40).shape == (40, 24, 3), each.name


def test_heic_is_read() -> None:
    pixels = read(HEIC)
    assert pixels.shape == (32, 48, 3)
    assert means(pixels) == pytest.approx((10, 120, 200), abs=3)


@pytest.mark.parametrize("name", ["avif_named_heif.heif", "heic_small.heic"])
def test_avif_and_heic_of_real_files_by_what_is_in_them(name: str) -> None:
    pixels = read(field_file(name))
    if name.startswith("avif"):
        assert means(pixels) == pytest.approx((10, 120, 200), abs=3)
    assert pixels.std() < 100


@pytest.mark.parametrize("picture_format", FORMATS)
def test_bytes_behind_a_picture_change_nothing(picture_format: str) -> None:
    whole = encoded(striped(), picture_format)
    assert np.array_equal(read(whole + b"x" * 1000), read(whole))


def test_the_chunk_that_ends_a_png_is_not_missed() -> None:
    whole = encoded(striped(), "PNG")
    assert np.array_equal(read(whole[:-12]), read(whole))


@pytest.mark.parametrize("kind", CUT_OFF | NOT_TAKEN)
def test_what_cannot_be_read_is_refused(kind: str) -> None:
    with pytest.raises(InvalidRequest, match="'image_url'"):
        read((CUT_OFF | NOT_TAKEN)[kind], 64, 64)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged Exif data in a JPEG
@pytest.mark.parametrize("source", [*FORMATS, "HEIC", "16 bits", "palette", "profile"])
def test_a_damaged_picture_is_read_or_refused_and_nothing_else(source: str) -> None:
    chance = random.Random(source)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = {
        "HEIC": HEIC,
        "16 bits": READABLE["16 bits"],
        "palette": READABLE["a palette with transparency"],
        "profile": encoded(striped(), "JPEG", icc_profile=LINEAR),
    }.get(source) or encoded(striped(), source, exif=exif)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        try:
            assert read(bytes(data), 64, 64).shape == (64, 64, 3)
        except InvalidRequest as refused:
            assert refused.problems[0]["loc"] == ["body", "image_url"]
