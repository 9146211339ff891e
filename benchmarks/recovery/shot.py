"""One fault as it was seen, and what was promised of it. Pure. Times in seconds after the fault."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.recovery.seen import (
    Message,
    Move,
    Stream,
    Touched,
    counted,
    of_end,
    touched,
)

Signal = Literal["SIGKILL", "SIGSTOP"]

TOLERANCE = 1  # of 255: a batch of another size rounds otherwise
NOTICED_S = 2.0  # of a death, beyond the steps that are made again or the restart
STALL_TICKS = 20  # times the median tick, where that is longer than the setting


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of the victim: it got no more work, a process in its place was there, and served.
    None where that was not seen. `served_s`: the first picture that was asked for after the fault.
    """

    out_of_routing_s: float | None
    new_process_s: float | None
    running_s: float | None
    served_s: float


@dataclass(frozen=True, slots=True)
class Shot:
    """`streams` were in flight at the fault, `meanwhile` began before the victim was replaced;
    `later` counts the ends of all that began after the fault, until all was whole again, `messages`
    likewise, with those in flight; `next_results_s` has the next result of each session. Of
    `compared` pictures `wrong` differed from their reference by more than 1 of 255. `repeated`
    counts steps and previews that a client was told again."""

    victim: str
    signal: Signal
    replaced: Replaced
    streams: list[Touched]
    meanwhile: list[Touched]
    moves: list[Move]
    later: dict[str, int]
    messages: dict[str, int]
    next_results_s: list[float]
    compared: int
    wrong: int
    largest_difference: int
    repeated: int

    @property
    def lost(self) -> int:
        """Streams that began before or after the fault and had no picture, refused ones too."""
        return sum(each.end != "final" for each in self.streams) + _not_final(self.later)

    @property
    def refused(self) -> int:
        at_fault = sum(each.end == "refused" for each in self.streams)
        return at_fault + of_end(self.later, "refused") + of_end(self.messages, "refused")

    @property
    def cut(self) -> int:
        at_fault = sum(each.end == "cut" for each in self.streams)
        return at_fault + of_end(self.later, "cut") + of_end(self.messages, "cut")

    @property
    def lost_messages(self) -> int:
        return _not_final(self.messages)

    @property
    def resumed(self) -> list[Move]:
        """Moves of jobs that go on from a checkpoint."""
        return [move for move in self.denoised if move.resumed_from > 0]

    @property
    def denoised(self) -> list[Move]:
        """Moves to another denoiser."""
        return [move for move in self.moves if move.stage == "denoise"]

    @property
    def moved_s(self) -> float | None:
        """When the last job had moved to another denoiser."""
        return max((move.after_s for move in self.denoised), default=None)

    @property
    def behind(self) -> int:
        """Steps between what a client was told of last and the checkpoint, at most."""
        return max((move.step - move.resumed_from for move in self.denoised), default=0)

    @property
    def interval_s(self) -> float:
        """The median time between two steps, of all streams in flight."""
        found = [each.interval_s for each in self.streams if each.interval_s is not None]
        return statistics.median(found) if found else 0.0

    def stall_s(self, setting: float) -> float:
        """After so long a replica that stands still is taken for stalled."""
        return max(setting, STALL_TICKS * self.interval_s)


def shot(
    victim: str,
    signal: Signal,
    at: float,
    replaced: Replaced,
    streams: Sequence[Stream],
    messages: Sequence[Message],
    moved: list[Move],
) -> Shot:
    """Of everything that clients have seen up to now."""
    in_flight = [stream for stream in streams if stream.in_flight(at)]
    later = [stream for stream in streams if stream.began > at and stream.end is not None]
    running = at + (replaced.running_s or 0)
    spoken = [each for each in messages if each.ended is not None and each.ended > at]
    results: dict[int, float] = {}
    for message in spoken:
        if message.end == "final" and message.ended is not None:
            results.setdefault(message.session, message.ended - at)
    everything: list[Stream | Message] = [*in_flight, *later, *spoken]
    compared = [each.difference for each in everything if each.difference is not None]
    return Shot(
        victim=victim,
        signal=signal,
        replaced=replaced,
        streams=[touched(stream, at) for stream in in_flight],
        meanwhile=[touched(stream, at) for stream in later if stream.began <= running],
        moves=moved,
        later=counted(later),
        messages=counted(spoken),
        next_results_s=sorted(results.values()),
        compared=len(compared),
        wrong=sum(difference > TOLERANCE for difference in compared),
        largest_difference=max(compared, default=0),
        repeated=sum(stream.repeated for stream in (*in_flight, *later)),
    )


def bound_s(shot: Shot, stream: Touched, stall_s: float, *, alone: bool) -> float | None:
    """Within which a stream is to have its next event; None where nothing is promised, or it was
    not known. `alone`: the victim's deployment has one replica, whose restart is waited for."""
    if alone:
        running_s = shot.replaced.running_s
        return None if running_s is None else running_s + NOTICED_S
    interval_s = shot.interval_s if stream.interval_s is None else stream.interval_s
    noticed_s = NOTICED_S if shot.signal == "SIGKILL" else NOTICED_S + shot.stall_s(stall_s)
    return noticed_s + 2 * interval_s


def due(shot: Shot, *, alone: bool) -> list[Touched]:
    """Streams whose next event is held against its bound. Where each may need the victim, all those
    that were there or came meanwhile; else those that had begun or were moved."""
    if alone:
        return shot.streams + shot.meanwhile
    moved = {move.request_id for move in shot.moves}
    return [each for each in shot.streams if each.step > 0 or each.request_id in moved]


def _not_final(counts: dict[str, int]) -> int:
    return sum(counts.values()) - of_end(counts, "final")
