"""What the benchmark of recovery makes of what it has seen."""

import math
import random
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks.machine import Machine
from benchmarks.recovery import redeploy, runs, tables, verdicts
from benchmarks.recovery.clients import Crowd
from benchmarks.recovery.faults import DENOISER, FAULTS
from benchmarks.recovery.runs import FaultRun
from benchmarks.recovery.seen import (
    Message,
    Move,
    Stream,
    counted,
    longest_silence_s,
    moves,
    of_end,
    touched,
)
from benchmarks.recovery.shot import Replaced, Shot, bound_s, due, shot
from benchmarks.recovery.state import State
from benchmarks.recovery.statistics import interval, ratio_interval, students_t

AT = 1_000_000.0
LOG = """\
2026-11-27 18:00:00,250 INFO [stream-1-0] glimpse.generation: accepted: 128x128, 20 steps
2026-11-27 18:00:01,500 WARNING [stream-1-0] glimpse.generation: moved: denoise lost at step 7, \
resumes from step 5 on another replica (move 1 of 2)
2026-11-27 18:00:02,500 WARNING [session-3-9] glimpse.generation: moved: denoise stalled at \
step 0, resumes from step 0 on another replica (move 1 of 2)
2026-11-27 18:00:03,500 WARNING [stream-2-0] glimpse.failover: moved: image_decode lost, begins \
anew on another replica (move 1 of 2)
"""
REPLACED = Replaced(out_of_routing_s=1, new_process_s=3, running_s=20, served_s=2)


def stream(
    name: str = "stream-0-0", began: float = -3, last: int = 5, every: float = 0.5
) -> Stream:
    """Begun some seconds before the fault, with a step each half second."""
    made = Stream(name, AT + began)
    for step in range(1, last + 1):
        made.hear(AT + began + step / 2, "progress", step)
    return made


def finished(made: Stream, after: float) -> Stream:
    made.finish(AT + after, "final")
    made.difference = 1
    return made


def shot_of(
    *streams: Stream, moved: tuple[Move, ...] = (), messages: tuple[Message, ...] = ()
) -> Shot:
    return shot(DENOISER, "SIGKILL", AT, REPLACED, streams, messages, list(moved))


def run_of(*shots: Shot) -> FaultRun:
    on = Machine("a CPU", 2, 8.0, "3.11", {}, (0, 0, 0), "2026-11-27T18:00+00:00", "abc")
    return FaultRun(on, "abc", Crowd(1, 0), 5, 5.0, [[each] for each in shots])


def test_moves_are_read_from_the_log_since_the_fault() -> None:
    since = datetime(2026, 11, 27, 18, 0, 1).timestamp()
    assert moves(LOG, since) == [
        Move("stream-1-0", "denoise", "lost", 7, 5, 0.5),
        Move("session-3-9", "denoise", "stalled", 0, 0, 1.5),
        Move("stream-2-0", "image_decode", "lost", 0, 0, 2.5),
    ]
    assert [move.request_id for move in moves(LOG, since + 1)] == ["session-3-9", "stream-2-0"]


def test_a_move_that_is_logged_in_other_words_is_no_silent_zero() -> None:
    with pytest.raises(ValueError, match="another form"):
        moves("INFO [a] glimpse.failover: moved: denoise, resumed from step 5", 0)


def test_a_stream_in_flight_waits_from_the_fault_to_its_next_event() -> None:
    made = stream()
    made.hear(AT + 1.5, "progress", 6)
    finished(made, 2)
    seen = touched(made, AT)
    assert (seen.step, seen.interval_s, seen.wait_s, seen.silence_s) == (5, 0.5, 1.5, 1.5)


def test_to_be_told_of_the_loss_is_not_the_event_that_was_waited_for() -> None:
    made = stream()
    made.finish(AT + 0.1, "failed", "stage_lost")
    made.finish(AT + 0.2, "cut", "RemoteProtocolError")
    seen = touched(made, AT)
    assert (seen.end, seen.reason, seen.wait_s) == ("failed", "stage_lost", None)
    assert [each.request_id for each in verdicts.late(run_of(), shot_of(made), alone=False)]


def test_a_step_or_a_preview_that_comes_again_is_counted() -> None:
    made = Stream("a", AT)
    for kind, step in (("progress", 1), ("preview", 1), ("progress", 2), ("preview", 1)):
        made.hear(AT, kind, step)
    assert made.repeated == 1
    made.hear(AT, "progress", 2)
    assert made.repeated == 2


def test_whoever_has_begun_or_was_moved_is_due_in_time() -> None:
    waiting, moved = stream("waits", last=0), stream("moved", last=0)
    for each in (waiting, moved):
        finished(each, 9)
    seen = shot_of(waiting, moved, moved=(Move("moved", "denoise", "lost", 0, 0, 0.5),))
    assert [each.request_id for each in due(seen, alone=False)] == ["moved"]
    assert [each.request_id for each in due(seen, alone=True)] == ["waits", "moved"]


@pytest.mark.parametrize(("signal", "bound"), [("SIGKILL", 3.0), ("SIGSTOP", 13.0)])
def test_a_moved_stream_has_two_of_its_intervals_and_a_stalled_one_the_stall(
    signal: str, bound: float
) -> None:
    seen = shot(DENOISER, signal, AT, REPLACED, [finished(stream(), 1)], [], [])  # type: ignore[arg-type]
    assert seen.stall_s(5) == 10  # 20 ticks of half a second
    assert bound_s(seen, seen.streams[0], 5, alone=False) == bound


def test_where_there_is_one_replica_the_restart_is_waited_for_by_those_who_come_meanwhile() -> None:
    meanwhile, later = stream("c", began=19, last=0), stream("d", began=21, last=0)
    there = finished(stream("a"), 21.9), finished(stream("b"), 22.1)
    seen = shot_of(*there, finished(meanwhile, 22.1), finished(later, 30))
    assert bound_s(seen, seen.streams[0], 5, alone=True) == 22
    late = verdicts.late(run_of(), seen, alone=True)
    assert [each.request_id for each in late] == ["b", "c"]


def test_the_next_result_of_each_session_and_what_was_lost() -> None:
    spoken = [Message(0, "a", AT - 1), Message(0, "b", AT + 2), Message(1, "c", AT - 1)]
    spoken[0].finish(AT + 1, "final")
    spoken[1].finish(AT + 3, "final")
    spoken[2].finish(AT + 1, "failed", "STAGE_LOST")
    seen = shot_of(messages=tuple(spoken))
    assert (seen.next_results_s, seen.lost_messages) == ([1.0], 1)


def test_every_loss_counts_whenever_it_began() -> None:
    cut, refused = stream(), Stream("later", AT + 1)
    cut.finish(AT + 1, "cut", "ReadError")
    refused.finish(AT + 2, "refused", "HTTP 503")
    before = finished(stream(), -0.5)
    seen = shot_of(cut, refused, before)
    assert (len(seen.streams), seen.lost, seen.later) == (1, 2, {"refused: HTTP 503": 1})


def test_a_run_in_which_no_job_was_resumed_fails() -> None:
    def unmet(*moved: Move) -> list[str]:
        run = run_of(shot_of(finished(stream(), 1), moved=moved))
        return [each.what for each in verdicts.of("denoiser_kill", run) if not each.met]

    assert unmet(Move("a", "denoise", "lost", 7, 5, 0.5)) == []
    assert unmet(Move("a", "denoise", "lost", 3, 0, 0.5)) == ["SIGKILL of a Denoiser: jobs resumed"]
    assert unmet(Move("a", "denoise", "lost", 12, 5, 0.5)) == [
        "SIGKILL of a Denoiser: steps from the checkpoint to the last that was told"
    ]


def test_a_stopped_replica_that_is_never_replaced_fails() -> None:
    seen = shot(
        DENOISER,
        "SIGSTOP",
        AT,
        Replaced(None, None, None, 60),
        [finished(stream(), 1)],
        [],
        [Move("a", "denoise", "stalled", 7, 5, 12.5)],
    )
    unmet = [each for each in verdicts.of("denoiser_stop", run_of(seen)) if not each.met]
    assert [each.measured for each in unmet] == [2.5, math.inf, math.inf]


def test_ends_are_counted_by_their_reason() -> None:
    failed, open_one = stream(), stream()
    failed.finish(AT, "failed", "stage_lost")
    counts = counted([finished(stream(), 0), failed, open_one])
    assert counts == {"final": 1, "failed: stage_lost": 1, "open: ": 1}
    assert (of_end(counts, "failed"), of_end(counts, "cut")) == (1, 0)


def test_the_longest_silence_begins_when_it_is_looked_for_and_may_last() -> None:
    assert longest_silence_s([finished(stream(), 4)], AT, AT + 9) == 4
    assert longest_silence_s([finished(stream(began=1, last=0), 4)], AT, AT + 9) == 3
    assert longest_silence_s([stream(), finished(stream(), -0.1)], AT, AT + 9) == 9


def test_a_deployment_is_whole_with_every_replica_and_no_other() -> None:
    def state(replicas: dict[str, str], starting: int = 0) -> State:
        each = {"healthy": True, "target": 2, "replicas": replicas, "starting": starting}
        return State.of({"dashboard": "", "deployments": {"Denoiser": each}})

    assert state({"1": "RUNNING", "2": "RUNNING"}).whole
    assert not state({"1": "RUNNING"}).whole
    assert not state({"1": "RUNNING"}, starting=1).whole
    assert not state({"1": "RUNNING", "2": "RUNNING", "3": "STOPPING"}).whole
    assert not state({"1": "RUNNING", "2": "STARTING"}).whole
    assert not State.of({"dashboard": "", "deployments": {}}).whole


def test_new_settings_serve_when_every_replica_is_a_new_one() -> None:
    def state(**pids: list[int]) -> State:
        running = {
            name: {
                "healthy": True,
                "target": 2,
                "replicas": {str(pid): "RUNNING" for pid in of_it},
                "starting": 0,
            }
            for name, of_it in pids.items()
        }
        return State.of({"dashboard": "", "deployments": running})

    before = state(Denoiser=[1, 2])
    assert not redeploy.serves_anew(state(), before)
    assert not redeploy.serves_anew(state(Denoiser=[2, 3]), before)
    assert redeploy.serves_anew(state(Denoiser=[2, 3, 4]), before)


def test_students_t() -> None:
    for degrees, quantile in ((2, 4.303), (9, 2.262), (29, 2.045)):
        assert students_t(degrees) == pytest.approx(quantile, abs=2e-3)
    with pytest.raises(ValueError, match="how far"):
        students_t(1)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    dice = random.Random(1)
    held = 0
    for _ in range(400):
        found = interval([dice.gauss(3, 2) for _ in range(10)])
        held += found.low <= 3 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_ratios_are_as_far_from_one_either_way() -> None:
    ratios = (0.9, 1.0, 1.2)
    found, inverse = ratio_interval(ratios), ratio_interval([1 / each for each in ratios])
    assert found.mean == pytest.approx(1 / inverse.mean)
    assert found.high == pytest.approx(1 / inverse.low)


def test_a_run_is_kept_as_it_was_and_belongs_to_its_code(tmp_path: Path) -> None:
    run = run_of(shot_of(finished(stream(), 1)))
    folder = tmp_path / "recovery"
    assert runs.find("denoiser_kill", folder) is None
    runs.save("denoiser_kill", run, folder)
    assert runs.find("denoiser_kill", folder) == run
    assert runs.is_of(run, "abc")
    assert not runs.is_of(run, "def")
    assert not runs.is_of(run_of(), "abc+"), "what was changed since counts as another"


def test_every_fault_has_a_row_and_a_denoiser_after_it() -> None:
    seen = shot_of(finished(stream(), 1))
    on = run_of(seen)
    two = FaultRun(on.machine, "abc", on.crowd, 5, 5.0, [[seen, seen]])
    made = tables.by_name(dict.fromkeys(FAULTS, two))
    for name in ("recovery_losses", "recovery_times"):
        heads, _, *rows = made[name]().splitlines()
        assert len(rows) == 2 * len(FAULTS)
        assert {row.count("|") for row in rows} == {heads.count("|")}
    assert made["recovery_machine"]().endswith(f"measured: abc: {', '.join(FAULTS)}")
    assert "| SIGKILL of a Denoiser: jobs resumed | 0.00 |" in made["recovery_verdicts"]()
