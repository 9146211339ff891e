"""The server's own page, and fal's JavaScript client on somebody else's, in a browser."""

import contextlib
import functools
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from config.settings import ROOT
from tests.clients.chromium import PROGRAM, Page, page_of
from tests.clients.conftest import JAVASCRIPT
from tests.integration.application import Application, eventually

EXAMPLE = ROOT / "examples" / "browser"

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")

# Of the picture that is shown: its width, and how many colours its pixels have.
SHOWN = """(() => {
  const [image] = document.images, canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.width, new Set(new Uint32Array(data.buffer)).size];
})()"""


def check_picture(page: Page) -> None:
    width, colours = page.evaluate(SHOWN)
    assert width == 128
    assert colours > 1000


def test_the_servers_own_page_draws(application: Application) -> None:
    with page_of(f"{application.url}/") as page:
        page.evaluate("document.querySelector('button').click()")
        caption = "document.querySelector('figcaption').textContent"
        eventually(lambda: page.evaluate(caption) == "Final")
        check_picture(page)
        # Of 20 steps the first, every second one, and the last.
        assert page.evaluate("document.querySelectorAll('#previews img').length") == 11


@contextlib.contextmanager
def site(folder: Path, script: Path, node_modules: Path) -> Iterator[str]:
    """A folder with a script in it, bundled, served from another origin than Glimpse."""
    (folder / "node_modules").symlink_to(node_modules)
    shutil.copy(script, folder)
    subprocess.run(
        [node_modules / ".bin" / "esbuild", script.name, "--bundle", "--outfile=bundle.js"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()


@pytest.fixture
def example(tmp_path: Path, node_modules: Path) -> Iterator[str]:
    shutil.copy(EXAMPLE / "index.html", tmp_path)
    with site(tmp_path, EXAMPLE / "main.js", node_modules) as url:
        yield url


@pytest.fixture
def bare(tmp_path: Path, node_modules: Path, script: str) -> Iterator[str]:
    """A page with one of the scripts in `javascript/`, and nothing else."""
    (tmp_path / "index.html").write_text('<!doctype html><script src="bundle.js"></script>')
    with site(tmp_path, JAVASCRIPT / script, node_modules) as url:
        yield url


def test_the_example_of_fals_client_draws(application: Application, example: str) -> None:
    with page_of(f"{example}?server={application.url}") as page:
        page.evaluate("document.querySelector('button').click()")
        said = "document.querySelector('p').textContent"
        eventually(lambda: page.evaluate(said) == "final, step 20 of 20")
        check_picture(page)
        page.evaluate("document.forms[0].prompt.value = ''")
        page.evaluate("document.querySelector('button').click()")
        eventually(lambda: "prompt" in page.evaluate(said))  # the server's own message


@pytest.mark.parametrize("script", ["browser.mjs"])
def test_fals_client_finds_the_requests_id_and_holds_a_session(
    application: Application, bare: str
) -> None:
    """Across origins: the one header has to be exposed, the other's page allowed."""
    with page_of(bare) as page:
        page.evaluate(f"pointTo({application.url!r})")
        assert page.evaluate("run()") == ["final", "r1"]
        assert page.evaluate("realtime()") == ["final", 7, True, [0xFF, 0xD8, 0xFF]]


@pytest.mark.parametrize("script", ["openai_browser.mjs"])
def test_openais_client_generates_streams_and_edits(application: Application, bare: str) -> None:
    """Across origins, with the headers that it adds by itself."""
    with page_of(bare) as page:
        page.evaluate(f"pointTo({application.url!r})")
        size, request_id = page.evaluate("generate()")
        assert size == [128, 128] and request_id
        assert page.evaluate("stream()") == [
            ["image_generation.partial_image", [128, 128]],
            ["image_generation.partial_image", [128, 128]],
            ["image_generation.completed", [128, 128]],
        ]
        assert page.evaluate("edit()") == [160, 104]
        assert page.evaluate("refused()") == [400, "n"]
