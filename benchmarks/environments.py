"""The virtual environments of the peers: benchmarks/.venvs/NAME, from benchmarks/peers-NAME.txt.

A peer's own packages come first. What is not pinned for it (torch, diffusers, transformers and what
they need) it takes from the environment that runs this, so that everyone runs the same build.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from config.settings import ROOT

FOLDER = ROOT / "benchmarks" / ".venvs"
PEERS = ("fal", "litserve")


def python_of(peer: str) -> Path:
    return FOLDER / peer / "bin" / "python"


def install() -> None:
    """Makes those that are not there or not as pinned; needs a package index for that."""
    for peer in PEERS:
        _install(peer)


def _install(peer: str) -> None:
    pins = ROOT / "benchmarks" / f"peers-{peer}.txt"
    folder = FOLDER / peer
    shared = sysconfig.get_path("purelib")
    installed, as_wanted = folder / ".installed", f"{shared}\n{pins.read_text()}"
    if installed.exists() and installed.read_text() == as_wanted:
        return
    print(f"installing {peer} in {folder}", file=sys.stderr, flush=True)
    if folder.exists():
        shutil.rmtree(folder)
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python_of(peer)), "install"]
    # Every package is pinned, so nothing is left to resolve.
    subprocess.check_call([*pip, "--quiet", "--no-deps", "--requirement", str(pins)])
    own = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(own) / "shared.pth").write_text(f"{shared}\n")
    installed.write_text(as_wanted)
