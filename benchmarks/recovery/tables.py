"""The figures of docs/reliability.md."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from benchmarks.recovery import cost, verdicts
from benchmarks.recovery.cluster import REPLICA
from benchmarks.recovery.faults import FAULTS
from benchmarks.recovery.runs import CostRun, FaultRun, RedeployRun, Run, WolfRun
from benchmarks.recovery.seen import of_end
from benchmarks.recovery.shot import Shot, bound_s, due
from benchmarks.recovery.statistics import Interval
from benchmarks.results import Verdict
from benchmarks.tables import NONE, machine_list, table, verdicts_table

LOSSES = (
    "fault",
    "times",
    "streams in flight",
    "lost of them",
    "of those that came later",
    "messages of sessions",
    "lost",
    "pictures compared",
    "largest difference",
    "jobs resumed, from step",
)
TIMES = (
    "fault",
    "next event p50, s",
    "largest",
    "its bound",
    "late",
    "next result of a session, largest",
    "jobs have moved after, s",
    "out of routing after",
    "new process after",
    "it serves after",
    "first new picture after",
)

AFTER = "… and then SIGKILL of a Denoiser"


def by_name(found: dict[str, Run]) -> dict[str, Callable[[], str]]:
    """Tables of what there is, by the name of their marker."""
    faults = {name: run for name, run in found.items() if isinstance(run, FaultRun)}
    made: dict[str, Callable[[], str]] = {}
    if found:
        made["recovery_machine"] = lambda: machine_of(found)
        made["recovery_verdicts"] = lambda: unmet_table(
            [verdict for name, run in found.items() for verdict in verdicts.of(name, run)]
        )
    if faults:
        made["recovery_losses"] = lambda: losses_table(faults)
        made["recovery_times"] = lambda: times_table(faults)
    for name, run in found.items():
        if name not in FAULTS:
            made[f"recovery_{name}"] = partial(of, name, run)
    return made


def machine_of(found: dict[str, Run]) -> str:
    """The machine of the last run, and the commits whose code was measured, the newest run last."""
    runs = sorted(found.items(), key=lambda item: item[1].machine.date)
    names: dict[str, list[str]] = {}
    for name, run in runs:
        names.setdefault(run.code, []).append(name)
    measured = "; ".join(f"{code}: {', '.join(several)}" for code, several in names.items())
    return f"{machine_list(runs[-1][1].machine, None)}\n- code that was measured: {measured}"


def of(name: str, run: Run) -> str:
    match run:
        case FaultRun():
            return f"{losses_table({name: run})}\n\n{times_table({name: run})}"
        case RedeployRun():
            return redeploy_table(run)
        case WolfRun():
            return wolf_table(run)
        case CostRun():
            return cost_table(run)


def unmet_table(of_all: Sequence[Verdict]) -> str:
    unmet = [verdict for verdict in of_all if not verdict.met]
    told = f"{len(of_all) - len(unmet)} of {len(of_all)} promises were kept."
    return f"{told}\n\n{verdicts_table(unmet)}" if unmet else told


def losses_table(runs: dict[str, FaultRun]) -> str:
    rows = []
    for name, run in runs.items():
        rows.append(_losses(FAULTS[name].what, [shots[0] for shots in run.rounds]))
        rows.append(_losses(AFTER, [shots[1] for shots in run.rounds]))
    return table(LOSSES, rows)


def _losses(what: str, shots: Sequence[Shot]) -> tuple[str, ...]:
    streams = [stream for shot in shots for stream in shot.streams]
    later = _added(shot.later for shot in shots)
    messages = _added(shot.messages for shot in shots)
    return (
        what,
        str(len(shots)),
        str(len(streams)),
        str(sum(stream.end != "final" for stream in streams)),
        _lost(later),
        str(sum(messages.values())),
        _lost(messages),
        str(sum(shot.compared for shot in shots)),
        str(max((shot.largest_difference for shot in shots), default=0)),
        _resumed(shots),
    )


def _resumed(shots: Sequence[Shot]) -> str:
    steps = sorted(move.resumed_from for shot in shots for move in shot.resumed)
    again = sum(len(shot.denoised) - len(shot.resumed) for shot in shots)
    from_start = f", {again} from the start" if again else ""
    if not steps:
        return f"0{from_start}"
    return f"{len(steps)}, from {steps[0]} to {steps[-1]}{from_start}"


def times_table(runs: dict[str, FaultRun]) -> str:
    rows = []
    for name, run in runs.items():
        fault = FAULTS[name]
        first = [each[0] for each in run.rounds]
        alone, promised = fault.alone, fault.promised
        rows.append(_times(run, fault.what, first, alone=alone, promised=promised))
        after = [each[1] for each in run.rounds]
        rows.append(_times(run, AFTER, after, alone=False, promised=True))
    return table(TIMES, rows)


def _times(
    run: FaultRun, what: str, shots: Sequence[Shot], *, alone: bool, promised: bool
) -> tuple[str, ...]:
    waits = [
        (stream.wait_s, bound_s(shot, stream, run.stall_s, alone=alone))
        for shot in shots
        for stream in due(shot, alone=alone)
    ]
    known = [(wait, bound) for wait, bound in waits if wait is not None]
    longest, bound = max(known, default=(None, None), key=lambda each: each[0])
    late = sum(len(verdicts.late(run, shot, alone=alone)) for shot in shots)
    replaced = [shot.replaced for shot in shots]
    # Serve lists no other processes.
    listed = [shot.replaced for shot in shots if shot.victim.startswith(REPLICA)]
    return (
        what,
        _seconds(statistics.median(wait for wait, _ in known) if known else None),
        _seconds(longest),
        _seconds(bound if promised else None),
        f"{late} of {len(waits)}" if promised else NONE,
        _seconds(max((each for shot in shots for each in shot.next_results_s), default=None)),
        _range([shot.moved_s for shot in shots if shot.moved_s is not None]),
        _range([each.out_of_routing_s for each in listed]),
        _range([each.new_process_s for each in replaced]),
        _range([each.running_s for each in listed]),
        _range([each.served_s for each in replaced]),
    )


def redeploy_table(run: RedeployRun) -> str:
    figure = run.figure
    closed = figure.closed_s
    when = f", after {closed[0]:.0f} to {closed[-1]:.0f} s" if closed else ""
    return table(
        ("", ""),
        [
            ("every new replica serves after", f"{figure.deployed_s:.0f} s"),
            ("the last old one is gone after", f"{figure.drained_s:.0f} s"),
            ("pictures", str(of_end(figure.streams, "final"))),
            ("requests and sessions refused", str(figure.refused)),
            ("streams lost", _lost(figure.streams)),
            ("longest silence of a stream", f"{figure.longest_silence_s:.1f} s"),
            ("results of sessions", str(of_end(figure.messages, "final"))),
            ("messages lost", _lost(figure.messages)),
            ("sessions cut", f"{len(closed)}{when}"),
            ("largest difference", f"{figure.largest_difference} of 255"),
        ],
    )


def wolf_table(run: WolfRun) -> str:
    figure = run.figure
    return table(
        ("", ""),
        [
            ("time", f"{figure.seconds / 60:.0f} minutes"),
            ("streams, sessions", f"{run.crowd.streams}, {run.crowd.sessions}"),
            ("busy loops beside them", str(figure.busy_loops)),
            ("pictures, results", f"{_finals(figure.streams)}, {_finals(figure.messages)}"),
            ("lost", _lost(figure.streams)),
            ("longest silence of a stream", f"{figure.longest_silence_s:.1f} s"),
            ("processes replaced", ", ".join(figure.restarted) or "0"),
            ("moves", str(figure.moves)),
        ],
    )


def cost_table(run: CostRun) -> str:
    heads = (
        "",
        "pairs",
        f"one client: pictures/s to those of {run.figure.against}",
        "eight clients",
        "added to a round trip less the model's time, ms",
    )
    return table(
        heads,
        [
            (
                graph,
                str(len(pairs)),
                _interval(cost.one_client(pairs)),
                _interval(cost.eight_clients(pairs)),
                _interval(cost.overhead_s(pairs), 1000),
            )
            for graph, pairs in run.figure.graphs.items()
        ],
    )


def _interval(found: Interval, times: float = 1) -> str:
    mean, low, high = (times * each for each in (found.mean, found.low, found.high))
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _finals(counts: dict[str, int]) -> int:
    return of_end(counts, "final")


def _lost(counts: dict[str, int]) -> str:
    """How many, and how."""
    ways = {way: count for way, count in counts.items() if way != "final"}
    how = "; ".join(f"{count} {way}" for way, count in sorted(ways.items()))
    return f"{sum(ways.values())} ({how})" if ways else "0"


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for way, count in each.items():
            total[way] = total.get(way, 0) + count
    return total


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _range(values: Sequence[float | None]) -> str:
    """The least and the most, and how many were never seen."""
    known = [value for value in values if value is not None]
    if not known:
        return "never" if values else NONE
    text = f"{min(known):.1f}" if len(known) == 1 else f"{min(known):.1f} to {max(known):.1f}"
    never = len(values) - len(known)
    return f"{text}, {never} times never" if never else text
