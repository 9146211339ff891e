"""The figures in docs/benchmarks.md and docs/reliability.md, between their markers."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import (
    foundation_tables,
    neighbours,
    neighbours_tables,
    realtime,
    realtime_tables,
    serving,
    serving_tables,
)
from benchmarks.recovery import runs
from benchmarks.recovery import tables as recovery_tables
from benchmarks.recovery.faults import FAULTS
from benchmarks.results import Results
from config.settings import ROOT

KNOWN_TABLES = frozenset(
    {
        *("verdicts", "machine", "start", "single_client", "bad_input", "memory", "decoders"),
        *("serving_machine", "serving_verdicts", "serving", "previews", "peak_memory"),
        *("cpu", "limit", "network", "batching"),
        *("realtime_machine", "realtime_verdicts", "realtime"),
        *("connections", "sessions", "slow_reader"),
        *("neighbours_machine", "neighbours_verdicts", "neighbours", "neighbours_cpu"),
        *("recovery_machine", "recovery_verdicts", "recovery_losses", "recovery_times"),
        *("recovery_redeploy", "recovery_wolf", "recovery_cost"),
    }
)
DOCUMENT = ROOT / "docs" / "benchmarks.md"
RECOVERY_DOCUMENT = ROOT / "docs" / "reliability.md"
MARKERS = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write(
    foundation: Results | None = None,
    served: serving.Results | None = None,
    talked: realtime.Results | None = None,
    beside: neighbours.Results | None = None,
) -> None:
    """Fills in the tables of the document, and draws its plots; the prose around them stays, and so
    does what there are no results for.
    """
    tables: dict[str, Callable[[], str]] = {}
    if foundation is not None:
        tables |= foundation_tables.by_name(foundation)
    if served is not None:
        from benchmarks import plots  # a large library, for this alone

        tables |= serving_tables.by_name(served)
        plots.draw(served)
    if talked is not None:
        tables |= realtime_tables.by_name(talked)
    if beside is not None:
        tables |= neighbours_tables.by_name(beside)
    _fill(DOCUMENT, tables)


def write_recovery() -> None:
    """The tables of whatever was measured."""
    found = {name: run for name in (*FAULTS, *runs.OTHERS) if (run := runs.find(name)) is not None}
    _fill(RECOVERY_DOCUMENT, recovery_tables.by_name(found))


def _fill(document: Path, tables: Mapping[str, Callable[[], str]]) -> None:
    def filled(found: re.Match[str]) -> str:
        if found[2] not in KNOWN_TABLES:
            raise ValueError(f"{document.name} asks for figures that nobody makes: {found[2]}")
        return f"{found[1]}{tables[found[2]]()}\n{found[3]}" if found[2] in tables else found[0]

    document.write_text(MARKERS.sub(filled, document.read_text()))
