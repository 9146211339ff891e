"""A page in Chromium without a window, driven by its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.integration.application import eventually

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")


class Page:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count()

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript gives, after a promise that it may give."""
        options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        result = self._call("Runtime.evaluate", options)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def _call(self, method: str, params: dict[str, Any]) -> Any:
        id = next(self._ids)
        self._connection.send(json.dumps({"id": id, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(60))
            if message.get("id") == id:
                return message["result"]


@contextmanager
def page_of(url: str) -> Iterator[Page]:
    """The page at an address, once it has loaded."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu"]
        options += ["--remote-debugging-port=0", f"--user-data-dir={profile}"]
        browser = subprocess.Popen([PROGRAM, *options, url], stderr=subprocess.DEVNULL)
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            eventually(lambda: port_file.exists() and port_file.read_text().count("\n") > 0)
            port = port_file.read_text().splitlines()[0]
            pages = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["url"] == url)
            with connect(address, max_size=None) as connection:
                page = Page(connection)
                # For a moment there is an empty document, which is complete as well.
                loaded = f"location.href === {json.dumps(url)} && document.readyState"
                eventually(lambda: page.evaluate(loaded) == "complete")
                yield page
        finally:
            browser.terminate()
            browser.wait(30)
