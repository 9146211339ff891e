"""Node, with the packages of `javascript/package-lock.json`."""

import os
import shutil
from pathlib import Path

import pytest

MODULES = Path(__file__).parent / "javascript" / "node_modules"


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Skips the test where they are missing, or Node is; fails it where CI is true."""
    if shutil.which("node") is not None and MODULES.exists():
        return MODULES
    reason = "needs Node, and the packages that `make test` installs with npm"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
