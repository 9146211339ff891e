"""The figures as plots: docs/images/benchmark-*.svg."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

from benchmarks import load, serving
from benchmarks.task import PREVIEW_EVERY
from config.settings import ROOT

matplotlib.use("svg")
# The same figures give the same files, and text stays text.
matplotlib.rcParams |= {"svg.hashsalt": "glimpse", "svg.fonttype": "none"}

from matplotlib import pyplot  # noqa: E402  after the choice of what it draws with

FOLDER = ROOT / "docs" / "images"
SIZE = (7, 4)  # inches
Points = Sequence[tuple[float, float]]


def draw(results: serving.Results, folder: Path = FOLDER) -> None:
    """All of them, into a folder."""
    served = {
        "the limit": [(lap.jobs, lap.pictures_per_s) for lap in results.limit.laps],
        **_by_server(results, lambda each: each.pictures_per_s),
    }
    _plot(folder / "benchmark-throughput.svg", served, "clients", "pictures/s")
    first = _by_server(
        results, lambda each: 1000 * each.first_preview.p50 if each.first_preview else None
    )
    _plot(
        folder / "benchmark-first-preview.svg", first, "clients", "first preview p50, ms", log=True
    )
    _plot(folder / "benchmark-batching.svg", _curves(results), "jobs", "steps of a job/s", log=True)


def _by_server(
    results: serving.Results, value: Callable[[load.Figure], float | None]
) -> dict[str, Points]:
    lines: dict[str, Points] = {}
    for server in results.servers:
        lines[server.name.replace("`", "")] = [
            (each.load.clients, y)
            for each in (run.figure for run in server.runs)
            if each.load.preview_every == PREVIEW_EVERY and (y := value(each)) is not None
        ]
    return lines


def _curves(results: serving.Results) -> dict[str, Points]:
    points = results.limit.curves
    return {
        f"{size}x{size} pixels": [(p.jobs, p.jobs / p.tick_s) for p in points if p.size == size]
        for size in sorted({point.size for point in points})
    }


def _plot(
    path: Path, lines: dict[str, Points], x_label: str, y_label: str, *, log: bool = False
) -> None:
    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xscale("log", base=2)
    ticks = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
