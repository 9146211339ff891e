"""`glimpse.input_pictures.inspection` and the formats' headers: a look that decodes nothing."""

import base64
import io
import struct

import pytest
from PIL import Image

from glimpse.errors import InvalidRequest
from glimpse.input_pictures import jpeg
from glimpse.input_pictures.broken import CutOff, Damaged
from glimpse.input_pictures.inspection import InputPicture, inspect
from glimpse.input_pictures.reading import read_pixels
from tests.strange_pictures import (
    CUT_OFF,
    GREY,
    MANY,
    NOT_TAKEN,
    READABLE,
    TOO_LARGE,
    TOO_MANY_SCANS,
    chunk,
    encoded,
    jpeg_of,
    png_of,
    with_chunks,
)

MAX_PIXELS = 2**20
SHAPE = Image.new("RGB", (60, 40), "red")


def look(data: bytes) -> InputPicture:
    return inspect(data, "image", MAX_PIXELS)


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        look(data)
    (problem,) = caught.value.problems
    assert problem["loc"] == ["body", "image"]
    return str(problem["msg"])


@pytest.mark.parametrize("kind", READABLE)
def test_what_can_be_read_is_seen_to_be_so(kind: str) -> None:
    with Image.open(io.BytesIO(READABLE[kind])) as image:
        size = image.size
    seen = look(READABLE[kind])
    assert seen.stored_size == size
    assert seen.field == "image"


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_a_format_that_is_not_taken_is_named(name: str) -> None:
    said = refusal(NOT_TAKEN[name])
    assert said.startswith(f"is {name}")
    assert said.endswith("which is not taken; send JPEG, PNG, WebP, AVIF or HEIC")


@pytest.mark.parametrize("kind", CUT_OFF)
def test_a_file_that_is_cut_off_is_seen_to_be_so(kind: str) -> None:
    assert refusal(CUT_OFF[kind]).startswith("is cut off")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of Exif data that are cut off
@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_wherever_a_file_is_cut_off_it_is_refused(picture_format: str) -> None:
    whole = encoded(GREY.convert("RGB"), picture_format)
    needed = len(whole) - (12 if picture_format == "PNG" else 1)  # the last chunk is not needed
    for length in range(needed):
        with pytest.raises(InvalidRequest, match="is (cut off|empty|not a picture)"):
            read_pixels(look(whole[:length]), 64, 64)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"hello", "is not a picture that can be read"),
        (base64.b64encode(encoded(SHAPE, "PNG")), "is base64 text"),
        (base64.b64encode(encoded(SHAPE, "JPEG")), "is base64 text"),
        (b"data:image/png;base64,AAAA", "is base64 text"),
        (b"\xff\xd8\xff\xd9", "is not a picture"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1jpeg" + bytes(20), "is a HEIF of another coding"),
    ],
)
def test_other_files_are_refused_in_words_of_their_own(data: bytes, reason: str) -> None:
    assert refusal(data).startswith(reason)


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_a_picture_is_refused_for_the_size_in_its_header(kind: str) -> None:
    assert "pixels; send a smaller picture" in refusal(TOO_LARGE[kind])


def test_the_limit_of_pixels_is_inclusive() -> None:
    assert look(png_of(1024, 1024)).pixels == MAX_PIXELS
    assert refusal(png_of(1024, 1025)).startswith(f"has more than {MAX_PIXELS} pixels")


@pytest.mark.parametrize("side", [4000, 6928, 7070])  # 12, 48 and 50 megapixels
@pytest.mark.parametrize("progressive", [False, True])
def test_a_phones_jpeg_passes(side: int, progressive: bool) -> None:
    data = jpeg_of(side, side) if progressive else _baseline(side)
    assert look(data).pixels == side * side


def _baseline(side: int) -> bytes:
    data = bytearray(encoded(GREY.convert("RGB"), "JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, side, side)
    return bytes(data)


@pytest.mark.parametrize("kind", TOO_MANY_SCANS)
def test_a_jpeg_is_refused_for_the_work_of_its_scans(kind: str) -> None:
    assert refusal(TOO_MANY_SCANS[kind]).startswith("is a JPEG of 160 scans")


def test_a_small_jpeg_may_have_many_scans() -> None:
    assert look(jpeg_of(64, 64, 1000)).pixels == 64 * 64


def test_samples_are_counted_after_subsampling_and_for_each_scan() -> None:
    header = jpeg.read_header(encoded(SHAPE, "JPEG", subsampling="4:2:0"))
    assert (header.scans, header.samples, header.scanned) == (1, 3600, 3600)
    header = jpeg.read_header(encoded(SHAPE, "JPEG", subsampling="4:4:4", progressive=True))
    assert (header.scans, header.samples) == (10, 7200)
    assert header.scanned == 14 * 2400  # two scans have three components


def test_junk_and_segments_are_bounded() -> None:
    whole = encoded(SHAPE, "JPEG")
    comment = b"\xff\xfe\0\2"
    assert jpeg.read_header(whole[:2] + comment * 100 + b"\xff" * 1000 + whole[2:]).width == 60
    with pytest.raises(Damaged, match="too many segments"):
        jpeg.read_header(whole[:2] + comment * 5000 + whole[2:])
    with pytest.raises(Damaged, match="too much between"):
        jpeg.read_header(whole[:2] + b"\xff" * 70_000 + whole[2:])
    with pytest.raises(CutOff):
        jpeg.read_header(whole[:2])


@pytest.mark.parametrize("filling", [b"\xff" * 2**22 + b"\0", b"\xff\0" * 2**21, bytes(2**22)])
def test_megabytes_between_segments_take_no_longer_than_they_are_long(filling: bytes) -> None:
    """A search that began anew at every fill byte would take years."""
    whole = encoded(SHAPE, "JPEG")
    with pytest.raises(Damaged, match="too much between"):
        jpeg.read_header(whole[:2] + filling + whole[2:])


@pytest.mark.parametrize("filling", [b"\xff\0", b"\xff\xd0", b"\xff\xd7", b"\xff", b"\0", b"\xd8"])
def test_the_data_of_a_scan_end_at_the_next_marker(filling: bytes) -> None:
    whole = encoded(SHAPE, "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    for length in (0, 1, jpeg.PIECE, jpeg.PIECE - 1 - last % jpeg.PIECE, 2 * jpeg.PIECE + 7):
        longer = whole[:-2] + filling * length + whole[-2:]
        assert jpeg.read_header(longer) == jpeg.read_header(whole)
        with pytest.raises(CutOff):
            jpeg.read_header(whole[:-2] + filling * length)


@pytest.mark.parametrize(("kind", "many"), [(b"\xdb", 2), (b"\xed", 40)])
def test_segments_that_pillow_reads_in_python_are_bounded(kind: bytes, many: int) -> None:
    whole = encoded(SHAPE, "JPEG")
    segment = b"\xff" + kind + struct.pack(">H", 60_002) + bytes(60_000)
    assert jpeg.read_header(whole[:2] + segment + whole[2:]).width == 60
    with pytest.raises(Damaged, match="beside its pixels"):
        jpeg.read_header(whole[:2] + segment * many + whole[2:])


def test_a_jpeg_that_pillow_would_read_otherwise_is_refused() -> None:
    """Two frame headers: the size that was checked has to be the one that is read."""
    whole = encoded(SHAPE, "JPEG")
    at = whole.index(b"\xff\xc0")
    second = bytearray(whole[at : at + 19])
    struct.pack_into(">HH", second, 5, 60_000, 60_000)
    assert refusal(whole[: at + 19] + second + whole[at + 19 :]).startswith("is not a picture")


def avif_with(kind: bytes, length: int, count: int = 1) -> bytes:
    """An AVIF with boxes more among those that describe it."""
    whole = encoded(SHAPE, "AVIF")
    at = whole.index(b"meta") - 4
    end = at + int.from_bytes(whole[at : at + 4])
    more = (struct.pack(">I4s", length, kind) + bytes(length - 8)) * count
    size = struct.pack(">I", end - at + len(more))
    return whole[:at] + size + whole[at + 4 : end] + more + whole[end:]


@pytest.mark.parametrize("kind", [b"iinf", b"iloc", b"iref", b"abcd"])
def test_an_avif_of_many_items_is_refused(kind: bytes) -> None:
    """libavif takes four seconds for 60,000 items."""
    assert refusal(avif_with(kind, 40_000)).startswith("has too many items")
    assert refusal(avif_with(kind, 100, 400)).startswith("has too many items")
    assert refusal(avif_with(kind, 8, 5000)).startswith("has too many boxes")
    hidden = b"\0\0\0\x0cmoov\0\0\0\1" + avif_with(kind, 40_000)[32:]
    assert refusal(avif_with(b"free", 8)[:32] + hidden).startswith("has too many items")


def test_an_avif_may_have_a_large_profile_and_pixels_beside_its_description() -> None:
    assert look(encoded(SHAPE, "AVIF", icc_profile=bytes(100_000))).width == 60
    for kind in (b"free", b"idat"):
        with pytest.raises(InvalidRequest, match="not a picture"):  # its offsets are wrong now
            read_pixels(look(avif_with(kind, 100_000)), 64, 64)


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_picture_turned_upright(
    picture_format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = look(encoded(SHAPE, picture_format, exif=exif))
    lies = orientation >= 5 and picture_format != "WEBP"  # of which browsers turn none
    assert (seen.width, seen.height) == ((40, 60) if lies else (60, 40))


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"II*\0", b"MM\0*" + bytes(8), bytes(100)])
def test_broken_exif_data_turn_nothing(exif: bytes) -> None:
    png = with_chunks(encoded(SHAPE, "PNG"), chunk(b"eXIf", exif))
    assert look(png).orientation == 1


def test_whether_a_picture_may_be_transparent() -> None:
    for image, transparent in ((SHAPE, False), (SHAPE.convert("RGBA"), True)):
        for picture_format in ("PNG", "WEBP", "AVIF"):
            options = {"lossless": True} if picture_format == "WEBP" else {}
            image_ = image.copy()
            if transparent:
                image_.putalpha(7)
            assert (
                look(encoded(image_, picture_format, **options)).may_be_transparent == transparent
            )
    assert look(encoded(MANY[0].convert("P"), "PNG", transparency=1)).may_be_transparent
    assert look(encoded(GREY, "PNG", transparency=1)).may_be_transparent
    assert not look(encoded(GREY, "JPEG")).may_be_transparent
