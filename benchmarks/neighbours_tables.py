"""The figures of neighbours as tables, and what was promised of them."""

import statistics
from collections.abc import Callable

from benchmarks.neighbours import ALONE, COSTLY, KINDS, REFUSED, SMALL, Results
from benchmarks.results import Verdict
from benchmarks.tables import fixed, machine_list, table, verdicts_table


def by_name(results: Results) -> dict[str, Callable[[], str]]:
    return {
        "neighbours_machine": lambda: machine_list(results.machine, results.minutes),
        "neighbours_verdicts": lambda: verdicts_table(verdicts(results)),
        "neighbours": lambda: _seconds_table(results),
        "neighbours_cpu": lambda: _cpu_table(results),
    }


def verdicts(results: Results) -> list[Verdict]:
    costly, refused = results.ratio(COSTLY, SMALL).mean, results.ratio(REFUSED, ALONE).mean
    accepted_s, refused_s = results.accepted_cpu_s.values(), results.refused_cpu_s.values()
    return [
        Verdict(
            "another client's time beside the costliest pictures / small ones", costly, 1.25, ""
        ),
        Verdict("another client's time beside refused pictures / alone", refused, 1.5, ""),
        Verdict("the costliest picture that is accepted, CPU", max(accepted_s), 2, "s"),
        Verdict("the costliest refusal, CPU", max(refused_s), 0.05, "s"),
    ]


def _seconds_table(results: Results) -> str:
    rows = []
    for kind in KINDS:
        median = statistics.median(results.seconds[kind])
        of = results.ratio(kind, ALONE)
        answers = sorted(results.answers[kind].items())
        told = ", ".join(f"{count} × {status}" for status, count in answers)
        rows.append((kind, *fixed(2, median), f"{of.mean:.2f} ({of.low:.2f}–{of.high:.2f})", told))
    heads = ("the first client sends", "the second's picture, s", "/ alone", "the first is told")
    return table(heads, rows)


def _cpu_table(results: Results) -> str:
    rows = [
        (name, what, *fixed(3, seconds))
        for what, all_of_them in (
            ("accepted", results.accepted_cpu_s),
            ("refused", results.refused_cpu_s),
        )
        for name, seconds in all_of_them.items()
    ]
    return table(("", "", "CPU, s"), rows)
