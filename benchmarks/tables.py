"""Figures as the cells and tables of a Markdown document."""

from collections.abc import Sequence

from benchmarks.machine import Machine
from benchmarks.results import Verdict
from benchmarks.samples import Summary

NONE = "–"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.{0 if seconds > 0.02 else 1}f}"


def milliseconds(seconds: Summary | None) -> tuple[str, str]:
    return (NONE, NONE) if seconds is None else (ms(seconds.p50), ms(seconds.p95))


def fixed(digits: int, *numbers: float) -> tuple[str, ...]:
    return tuple(f"{number:.{digits}f}" for number in numbers)


def machine_list(machine: Machine, minutes: float | None) -> str:
    """`minutes` is None where a run may be of several days."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    load = ", ".join(f"{each:.1f}" for each in machine.load_average)
    lasted = "" if minutes is None else f", in {minutes:.0f} minutes"
    return "\n".join(
        [
            f"- {machine.cpu}, {machine.cores} cores, {machine.memory_gb:.0f} GB; no GPU was used",
            f"- Python {machine.python}, {versions}",
            f"- commit {machine.commit}, {machine.date}{lasted}",
            f"- load average before the run: {load} (1, 5, 15 minutes)",
        ]
    )


def verdicts_table(verdicts: Sequence[Verdict]) -> str:
    return table(
        ("", "measured", "promised", "met"),
        [
            (
                each.what,
                f"{each.measured:.2f} {each.unit}".rstrip(),
                f"at {'least' if each.at_least else 'most'} {each.limit:g} {each.unit}".rstrip(),
                "yes" if each.met else "**no**",
            )
            for each in verdicts
        ],
    )
