"""The figures of one run, and what they should be."""

import statistics
from dataclasses import dataclass

from benchmarks import bad_input, decoders, memory, single_client, start
from benchmarks.machine import Machine
from benchmarks.stored import FOLDER

PATH = FOLDER / "foundation.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure that has a limit: the most it may be, or `at_least` the least."""

    what: str
    measured: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Results:
    machine: Machine
    minutes: float
    verdicts: list[Verdict]
    start: start.Figure
    memory: memory.Figure
    single_client: single_client.Figure
    bad_input: bad_input.Figure
    decoders: list[decoders.Figure]


def verdicts(
    start: start.Figure,
    memory: memory.Figure,
    single_client: single_client.Figure,
    bad_input: bad_input.Figure,
) -> list[Verdict]:
    first_picture = statistics.median(each.first_picture for each in start.starts)
    return [
        Verdict("warm start of `make serve` to the first picture", first_picture, 20, "s"),
        Verdict(
            "one client, no previews: service / pipeline", single_client.over_pipeline, 1.25, ""
        ),
        Verdict("what previews every five steps add", 100 * single_client.previews_add, 10, "%"),
        Verdict("the slowest kind of bad input is refused", 1000 * bad_input.slowest_s, 100, "ms"),
        Verdict("memory of all processes at rest (PSS)", memory.pss / 1e9, 3, "GB"),
    ]
