"""The server's own page, and fal's JavaScript client on somebody else's, in a browser."""

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
from tests.integration.application import Application, eventually

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


@pytest.fixture
def site(tmp_path: Path, node_modules: Path) -> Iterator[str]:
    """The example's page, served from another origin than Glimpse."""
    shutil.copytree(ROOT / "examples" / "browser", tmp_path, dirs_exist_ok=True)
    (tmp_path / "node_modules").symlink_to(node_modules)
    esbuild = node_modules / ".bin" / "esbuild"
    subprocess.run(
        [esbuild, "main.js", "--bundle", "--outfile=bundle.js"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def test_the_example_of_fals_client_draws(application: Application, site: str) -> None:
    with page_of(f"{site}?server={application.url}") as page:
        page.evaluate("document.querySelector('button').click()")
        said = "document.querySelector('p').textContent"
        eventually(lambda: page.evaluate(said) == "final, step 20 of 20")
        check_picture(page)
        page.evaluate("document.forms[0].prompt.value = ''")
        page.evaluate("document.querySelector('button').click()")
        eventually(lambda: "prompt" in page.evaluate(said))  # the server's own message
