"""Input pictures are read as Chromium shows them on a white page."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glimpse.input_pictures.inspection import inspect
from glimpse.input_pictures.reading import read_pixels
from tests.clients.chromium import PROGRAM, Page, page_of
from tests.many_pictures import Made, many
from tests.strange_pictures import field_file

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")

# Width, height and pixels of a picture at an address, or null for one that is not shown.
SHOWN = """(async (url) => {
  const image = new Image(), canvas = document.createElement("canvas");
  image.src = url;
  try { await image.decode(); } catch { return null; }
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (let at = 0; at < data.length; at += 8192)
    text += String.fromCharCode(...data.subarray(at, at + 8192));
  return [canvas.width, canvas.height, btoa(text)];
})"""


def shown(page: Page, made: Made) -> NDArray[np.int16] | None:
    """[height, width, 3], or None where Chromium does not show it."""
    kind = made.name.split()[0].strip(",").lower()
    url = f"data:image/{kind};base64,{base64.b64encode(made.data).decode()}"
    answer: Any = page.evaluate(f"{SHOWN}({json.dumps(url)})")
    if answer is None:
        return None
    width, height, text = answer
    pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
    return pixels[..., :3].astype(np.int16)


def wrong(page: Page, made: Made) -> Iterator[str]:
    """How our reading of a picture differs from Chromium's."""
    theirs = shown(page, made)
    if theirs is None:
        yield f"{made.name}: not shown"
        return
    seen = inspect(made.data, "image_url", 2**24)
    if theirs.shape[:2] != (seen.height, seen.width):
        yield f"{made.name}: {theirs.shape} and not {seen.height} x {seen.width}"
        return
    ours = read_pixels(seen, seen.width, seen.height)
    off = np.abs(ours.mean(axis=(0, 1)) - theirs.mean(axis=(0, 1))).max()
    near = (np.abs(ours - theirs).max(axis=2) <= 6).mean()
    if off > 2 or near < 0.99:
        yield f"{made.name}: mean {off:.1f} off, {near:.1%} of the pixels near"


def test_hundreds_of_pictures_are_read_as_they_are_shown() -> None:
    made = [*many()]
    assert len(made) >= 200
    with page_of("about:blank") as page:
        found = [problem for each in made for problem in wrong(page, each)]
    # Chromium shows no AVIF whose profile is broken.
    assert [each for each in found if "profile broken: not shown" not in each] == []
    assert len(found) == 2


@pytest.mark.parametrize(
    "name",
    [
        "black_text_on_transparent.png",
        "hidden_colours_under_transparency.png",
        "profiled_small.jpg",
        "avif_named_heif.heif",
        "mask_thin_lines.png",
    ],
)
def test_real_files_are_read_as_they_are_shown(name: str) -> None:
    kind = "avif" if name.endswith("heif") else name.rsplit(".")[-1].replace("jpg", "jpeg")
    made = Made(f"{kind} {name}", field_file(name), (0, 0))
    with page_of("about:blank") as page:
        assert [*wrong(page, made)] == []
