"""The bytes in tests/wire are what the clients of today's versions send."""

import subprocess
import sys
from pathlib import Path

from config.settings import ROOT
from tests.wire.sent import FOLDER


def sent(folder: Path) -> dict[str, bytes]:
    files = [*folder.glob("*.http"), *folder.glob("*.msgpack")]
    assert files
    return {path.name: path.read_bytes() for path in files}


def test_what_was_captured_is_what_is_sent(tmp_path: Path, node_modules: Path) -> None:
    # Not in this process, where it would leave the Python client pointed elsewhere.
    subprocess.run([sys.executable, "-m", "tests.wire.capture", tmp_path], cwd=ROOT, check=True)
    assert sent(tmp_path) == sent(FOLDER)
