"""Variables of Serve's processes: the `.env` files of config/."""

from pathlib import Path


def variables(path: Path) -> dict[str, str]:
    """Those of a `.env` file, as `make serve` reads it."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
