"""Results as the JSON files of benchmarks/results/."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from config.settings import ROOT

FOLDER = ROOT / "benchmarks" / "results"

Results = TypeVar("Results")


def save(results: Any, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(TypeAdapter(type(results)).dump_json(results, indent=1) + b"\n")


def find(kind: type[Results], path: Path) -> Results | None:
    """The results of the last run; None where there was none."""
    return TypeAdapter(kind).validate_json(path.read_bytes()) if path.exists() else None
