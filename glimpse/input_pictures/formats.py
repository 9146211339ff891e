"""Which format a file is in, by its first bytes."""

import re

from glimpse.input_pictures.broken import TAKEN, CutOff, Damaged, NotTaken

# By what a file begins with, or has from the fifth byte on. Order counts.
NOT_TAKEN: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF"),
    (b"II*\0", "a TIFF or a camera's raw file"),
    (b"MM\0*", "a TIFF or a camera's raw file"),
    (b"II+\0", "a BigTIFF"),
    (b"MM\0+", "a BigTIFF"),
    (b"BM", "a BMP"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\xff\xd8\xff\xf7", "a JPEG-LS"),
    (b"II\xbc\x01", "a JPEG XR"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"8BPS", "a Photoshop file"),
    (b"gimp xcf", "a GIMP file"),
    (b"\0\0\x01\0", "an ICO"),
    (b"\0\0\x02\0", "a CUR"),
    (b"icns", "an ICNS"),
    (b"qoif", "a QOI"),
    (b"DDS ", "a DDS"),
    (b"v/1\x01", "an OpenEXR"),
    (b"#?RADIANCE", "a Radiance HDR"),
    (b"#?RGBE", "a Radiance HDR"),
    (b"BPG\xfb", "a BPG"),
    (b"\x8aMNG", "an MNG"),
    (b"\x8bJNG", "a JNG"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
)
NETPBM = re.compile(rb"P[1-7]\s")
SVG = re.compile(rb"\s*(<\?xml|<!--|<!doctype svg|<svg)", re.IGNORECASE)
HTML = re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE)
BASE64_TEXT = re.compile(rb"\s*(data:|iVBORw0KGgo|/9j/|UklGR|AAAA[A-Za-z0-9+/]{2}Zn)")
AVIF_BRANDS, HEIC_BRANDS = {b"avif", b"avis"}, {b"heic", b"heix", b"heim", b"heis", b"hevc"}


def format_of(data: bytes) -> str:
    """JPEG, PNG, WEBP, AVIF or HEIF. Raises `NotTaken` or `Damaged`, saying which it is."""
    if not data:
        raise Damaged(f"is empty; send {TAKEN}")
    for begins, name in NOT_TAKEN:
        if data.startswith(begins):
            raise NotTaken(name)
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith(b"RIFF") and data[8:12] in (b"AVI ", b"WAVE"):
        raise NotTaken("a video or a sound")
    if data[4:8] == b"ftyp":
        return _format_of_boxes(data)
    raise _unknown(data)


def _format_of_boxes(data: bytes) -> str:
    """The ISO base media file format: brands tell what is in it."""
    size = min(int.from_bytes(data[:4]), 1024)
    if size > len(data):
        raise CutOff
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size, 4))]
    if AVIF_BRANDS & set(brands):
        return "AVIF"
    if HEIC_BRANDS & set(brands):
        return "HEIF"
    if {b"mif1", b"msf1", b"mif2", b"heif"} & set(brands):
        raise NotTaken("a HEIF of another coding than HEVC or AV1")
    raise NotTaken("a video")


def _unknown(data: bytes) -> Exception:
    head = data[:1024].removeprefix(b"\xef\xbb\xbf")
    if BASE64_TEXT.match(head):
        return Damaged("is base64 text, not the picture itself; send the decoded bytes")
    if HTML.match(head):
        return NotTaken("a web page")
    if SVG.match(head):
        return NotTaken("an SVG or another XML file")
    if NETPBM.match(head):
        return NotTaken("a Netpbm picture")
    return Damaged()
