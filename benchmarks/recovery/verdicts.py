"""What was promised, held against what was measured. Pure."""

from collections.abc import Iterator

from benchmarks.recovery import cost, redeploy, wolf
from benchmarks.recovery.faults import DENOISER, FAULTS, Fault
from benchmarks.recovery.runs import CostRun, FaultRun, RedeployRun, Run, WolfRun
from benchmarks.recovery.seen import Touched
from benchmarks.recovery.shot import NOTICED_S, Shot, bound_s, due
from benchmarks.results import Verdict

REPLACED_S = 30.0  # a replica that stands still
SLOWER = 0.98
REALTIME_MS = 0.3


def of(name: str, run: Run) -> Iterator[Verdict]:
    match run:
        case FaultRun():
            yield from _of_fault(FAULTS[name], run)
        case RedeployRun(figure=figure):
            yield from _of_redeploy(figure)
        case WolfRun(figure=figure):
            yield from _of_wolf(figure)
        case CostRun(figure=figure):
            yield from _of_cost(figure)


def shots(fault: Fault, run: FaultRun) -> list[tuple[Shot, bool]]:
    """All of them, the faults and the deaths of a denoiser after each; and whether the victim was
    alone."""
    return [
        (shot, fault.alone and shot.victim != DENOISER) for shots in run.rounds for shot in shots
    ]


def late(run: FaultRun, shot: Shot, *, alone: bool) -> list[Touched]:
    """Streams whose next event came later than it should, or was that they are lost."""
    found = []
    for stream in due(shot, alone=alone):
        bound = bound_s(shot, stream, run.stall_s, alone=alone)
        if stream.wait_s is None or bound is None or stream.wait_s > bound:
            found.append(stream)
    return found


def _of_fault(fault: Fault, run: FaultRun) -> Iterator[Verdict]:
    everything = shots(fault, run)
    # Where the fault itself is not promised anything, the death of a denoiser after it still is.
    promised = [each for each in everything if fault.promised or each[0].victim == DENOISER]
    lost = sum(shot.lost for shot, _ in promised)
    yield Verdict(f"{fault.what}: streams lost", lost, 0, "")
    lost = sum(shot.lost_messages for shot, _ in promised)
    yield Verdict(f"{fault.what}: messages of sessions lost", lost, 0, "")
    differences = [shot.largest_difference for shot, _ in everything]
    what = f"{fault.what}: largest difference to the undisturbed picture, of 255"
    yield Verdict(what, max(differences, default=0), 1, "")
    repeated = sum(shot.repeated for shot, _ in promised)
    yield Verdict(f"{fault.what}: steps and previews told twice", repeated, 0, "")
    resumed = sum(len(shot.resumed) for shot, _ in everything)
    yield Verdict(f"{fault.what}: jobs resumed", resumed, 1, "", at_least=True)
    behind = max((shot.behind for shot, _ in everything), default=0)
    what = f"{fault.what}: steps from the checkpoint to the last that was told"
    yield Verdict(what, behind, run.checkpoint_every_steps + 1, "")
    too_late = sum(len(late(run, shot, alone=alone)) for shot, alone in promised)
    yield Verdict(f"{fault.what}: streams whose next event was late", too_late, 0, "")
    yield from _of_stopped(fault, run, everything)


def _of_stopped(
    fault: Fault, run: FaultRun, everything: list[tuple[Shot, bool]]
) -> Iterator[Verdict]:
    if fault.signal != "SIGSTOP":
        return
    shots = [shot for shot, _ in everything if shot.signal == "SIGSTOP"]
    beyond = [shot.moved_s - shot.stall_s(run.stall_s) for shot in shots if shot.moved_s]
    what = f"{fault.what}: jobs have moved, after the stall time"
    yield Verdict(what, max(beyond, default=0), NOTICED_S, "s")
    stopped = [shot.replaced for shot in shots]
    for what, times in (
        ("out of routing", [each.out_of_routing_s for each in stopped]),
        ("a new process", [each.new_process_s for each in stopped]),
    ):
        slowest = max((float("inf") if each is None else each for each in times), default=0)
        yield Verdict(f"{fault.what}: {what}", slowest, REPLACED_S, "s")


def _of_redeploy(figure: redeploy.Figure) -> Iterator[Verdict]:
    yield Verdict("a redeploy: requests and sessions refused", figure.refused, 0, "")
    yield Verdict("a redeploy: streams lost", figure.lost, 0, "")
    yield Verdict("a redeploy: largest difference, of 255", figure.largest_difference, 1, "")


def _of_wolf(figure: wolf.Figure) -> Iterator[Verdict]:
    what = f"{figure.seconds / 60:.0f} minutes of load beside {figure.busy_loops} busy loops"
    yield Verdict(f"{what}: processes replaced", len(figure.restarted), 0, "")
    yield Verdict(f"{what}: moves", figure.moves, 0, "")


def _of_cost(figure: cost.Figure) -> Iterator[Verdict]:
    for graph, pairs in figure.graphs.items():
        for clients, ratio in (
            ("one client", cost.one_client(pairs)),
            ("eight clients", cost.eight_clients(pairs)),
        ):
            what = f"{graph}, {clients}: pictures/s to those of {figure.against}, upper end of 95 %"
            yield Verdict(what, ratio.high, SLOWER, "", at_least=True)
        added_ms = 1000 * cost.overhead_s(pairs).mean
        what = f"{graph}: added to a round trip less the model's time"
        yield Verdict(what, added_ms, REALTIME_MS, "ms")
