"""What was promised of serving, held against what was measured."""

from collections.abc import Iterator

from benchmarks.results import Verdict
from benchmarks.serving import CROWD, FAL_NAME, FUSED_NAME, SPLIT_NAME, Measured, Results, Run
from benchmarks.task import PREVIEW_EVERY


def verdicts(results: Results) -> list[Verdict]:
    """What was promised, as far as it was measured."""
    fal = results.server(FAL_NAME)
    assert fal is not None, "it is always measured"
    found: list[Verdict] = []
    for name, total, of_limit in ((SPLIT_NAME, 1.15, 0.80), (FUSED_NAME, 1.05, 0.90)):
        if (glimpse := results.server(name)) is not None:
            found += _verdicts(results, glimpse, fal, total, of_limit)
    behind = results.priority
    return [
        *found,
        Verdict(
            "a realtime job behind sixteen background jobs: ticks to its first step",
            behind.ticks,
            2,
            "",
        ),
        Verdict("sixteen jobs: lag of the event loop, p99", 1000 * behind.lag_p99_s, 10, "ms"),
    ]


def _verdicts(
    results: Results, glimpse: Measured, fal: Measured, total: float, of_limit: float
) -> Iterator[Verdict]:
    name = glimpse.name
    if (alone := glimpse.under(1)) is not None and alone.bare.pipeline_s is not None:
        ratio = alone.figure.total.p50 / alone.bare.pipeline_s
        yield Verdict(f"{name}, one client: total / pipeline's with previews", ratio, total, "")
    for run in glimpse.runs:
        clients, every = run.figure.load.clients, run.figure.load.preview_every
        if clients < CROWD or every != PREVIEW_EVERY:
            continue
        what = f"{name}, {clients} clients"
        yield Verdict(f"{what}: pictures/s / limit's", run.of_limit, of_limit, "", at_least=True)
        if (theirs := fal.under(clients)) is not None:
            ratio = run.of_limit / theirs.of_limit
            yield Verdict(f"{what}: pictures/s / fal.App's", ratio, 3, "", at_least=True)
        if clients == CROWD:
            yield from _crowd_verdicts(what, run, theirs)
        plain, lap = glimpse.under(clients, 0), results.lap(clients)
        if plain is not None and lap is not None:
            # What is left when each picture also pays for the decoding of its previews.
            due = 1 / (1 / plain.of_limit + lap.preview_s * lap.pictures_per_s)
            beyond = 100 * (1 - run.of_limit / due)
            yield Verdict(f"{what}: previews cost, beyond their decoding", beyond, 5, "%")


def _crowd_verdicts(what: str, run: Run, theirs: Run | None) -> Iterator[Verdict]:
    if run.rows_per_tick is not None:
        yield Verdict(f"{what}: mean rows a tick", run.rows_per_tick, 14, "", at_least=True)
    if theirs is None:
        return
    ours, fal = run.figure.first_preview, theirs.figure.first_preview
    if ours is not None and fal is not None:
        yield Verdict(f"{what}: first preview p95 / fal.App's", ours.p95 / fal.p95, 0.1, "")
