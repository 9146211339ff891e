"""What a client saw of one picture or message, and what of it counts at a fault. Pure. Times are
seconds of the epoch, as the server's log and the processes' ages are."""

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

End = Literal["final", "failed", "cut", "refused"]
"""A finished picture; an error that was told; a connection that ended without either; or none at
all: a status other than 200, or no connection."""

LOG_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) \w+ \[(?P<request>[^\]]+)\] \S+: "
    r"moved: (?P<stage>\w+) (?P<reason>\w+)"
    r"( at step (?P<step>\d+), resumes from step (?P<resumed_from>\d+)|, begins anew)"
    r" on another replica"
)
MENTION = ": moved: "


@dataclass(slots=True)
class Stream:
    """One request to `/stream`, with `progress`. `difference` is the largest to its reference, of
    255; `repeated` counts steps and previews that were told again."""

    request_id: str
    began: float
    steps: list[tuple[float, int]] = field(default_factory=list)
    events: list[float] = field(default_factory=list)
    previewed: int = 0
    repeated: int = 0
    end: End | None = None
    ended: float | None = None
    reason: str = ""
    difference: int | None = None

    def hear(self, now: float, kind: str, step: int) -> None:
        """A step or a preview."""
        self.events.append(now)
        if kind == "progress":
            self.repeated += bool(self.steps) and step <= self.steps[-1][1]
            self.steps.append((now, step))
        else:
            self.repeated += step <= self.previewed
            self.previewed = step

    def finish(self, now: float, end: End, reason: str = "") -> None:
        """The first end counts: after an error the connection is cut, too."""
        if self.end is None:
            self.end, self.ended, self.reason = end, now, reason
            self.events.append(now)

    def in_flight(self, at: float) -> bool:
        return self.began <= at and (self.ended is None or self.ended > at)

    def last_step(self, at: float) -> int:
        return max((step for time, step in self.steps if time <= at), default=0)


@dataclass(slots=True)
class Message:
    """One message of a realtime session, up to its result."""

    session: int
    request_id: str
    began: float
    end: End | None = None
    ended: float | None = None
    reason: str = ""
    difference: int | None = None

    def finish(self, now: float, end: End, reason: str = "") -> None:
        if self.end is None:
            self.end, self.ended, self.reason = end, now, reason

    def in_flight(self, at: float) -> bool:
        return self.began <= at and (self.ended is None or self.ended > at)


@dataclass(frozen=True, slots=True)
class Touched:
    """A stream in flight at a fault. `step` is the last it was told of before; `interval_s` its own
    median time between steps, None where it had made fewer than two; `wait_s` the time to its next
    event, and `silence_s` the longest without one, both after the fault. The end of a stream that
    is lost is no event that anybody waited for."""

    request_id: str
    step: int
    interval_s: float | None
    end: End
    reason: str
    wait_s: float | None
    silence_s: float | None


def touched(stream: Stream, at: float) -> Touched:
    """Of a stream that has ended."""
    assert stream.end is not None
    before = [time for time, _ in stream.steps if time <= at]
    after = [time for time in stream.events if time > at]
    if stream.end != "final":
        after = [time for time in after if time != stream.ended]
    gaps = [later - earlier for earlier, later in zip(before, before[1:], strict=False)]
    silences = [later - earlier for earlier, later in zip([at, *after], after, strict=False)]
    return Touched(
        request_id=stream.request_id,
        step=stream.last_step(at),
        interval_s=statistics.median(gaps) if gaps else None,
        end=stream.end,
        reason=stream.reason,
        wait_s=after[0] - at if after else None,
        silence_s=max(silences, default=None),
    )


@dataclass(frozen=True, slots=True)
class Move:
    """Work that goes on in another replica, as the server logs it. `step` is the last that the
    client was told of, `after_s` the time since the fault. Of decoding both steps are 0."""

    request_id: str
    stage: str
    reason: str
    step: int
    resumed_from: int
    after_s: float


def moves(log: str, since: float) -> list[Move]:
    """Raises `ValueError` for a line about a move that has another form: none is overlooked."""
    found = []
    for line in log.splitlines():
        if MENTION not in line:
            continue
        fields = LOG_LINE.search(line)
        if fields is None:
            raise ValueError(f"a move is logged in another form: {line}")
        moment = datetime.strptime(fields["time"], "%Y-%m-%d %H:%M:%S,%f").timestamp()
        if moment >= since:
            numbers = int(fields["step"] or 0), int(fields["resumed_from"] or 0)
            names = fields["request"], fields["stage"], fields["reason"]
            found.append(Move(*names, *numbers, moment - since))
    return found


def counted(what: Iterable[Stream | Message]) -> dict[str, int]:
    """How many ended in each way."""
    counts: dict[str, int] = {}
    for each in what:
        end = each.end or "open"
        key = end if end == "final" else f"{end}: {each.reason}"
        counts[key] = counts.get(key, 0) + 1
    return counts


def of_end(counts: dict[str, int], end: End) -> int:
    """How many of those counts ended so, for whichever reason."""
    return sum(count for key, count in counts.items() if key.partition(":")[0] == end)


def longest_silence_s(streams: Sequence[Stream], since: float, until: float) -> float:
    """Of any stream between two moments."""
    silences = [0.0]
    for stream in streams:
        begin, end = max(stream.began, since), min(stream.ended or until, until)
        times = [begin, *(time for time in stream.events if begin < time < end), end]
        silences += [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return max(silences)
