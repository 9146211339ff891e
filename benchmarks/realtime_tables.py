"""The figures of realtime sessions as tables, and what was promised of them."""

from collections.abc import Callable, Iterator

from benchmarks.realtime import PROFILE_NAME, Results
from benchmarks.results import Verdict
from benchmarks.samples import Summary
from benchmarks.serving import FAL_NAME, SPLIT_NAME
from benchmarks.tables import NONE, fixed, machine_list, table, verdicts_table


def by_name(results: Results) -> dict[str, Callable[[], str]]:
    return {
        "realtime_machine": lambda: machine_list(results.machine, results.minutes),
        "realtime_verdicts": lambda: verdicts_table(list(verdicts(results))),
        "realtime": lambda: round_trips_table(results),
        "connections": lambda: connections_table(results),
        "sessions": lambda: sessions_table(results),
        "slow_reader": lambda: slow_reader_table(results),
    }


def verdicts(results: Results) -> Iterator[Verdict]:
    """As far as it was measured."""
    fal, ours = results.round_trips_of(FAL_NAME), results.round_trips_of(PROFILE_NAME)
    for name, most in ((SPLIT_NAME, 8), (PROFILE_NAME, 3)):
        trips = results.round_trips_of(name)
        if trips is not None and trips.overhead is not None:
            what = f"{name}: round trip less the model's time"
            yield Verdict(what, 1000 * trips.overhead.p50, most, "ms")
    if fal is not None and ours is not None:
        ratio = ours.round_trip.p50 / fal.round_trip.p50
        yield Verdict(f"{PROFILE_NAME}: round trip / fal.App's", ratio, 1, "")
    for connections in results.connections:
        what = f"{connections.name}: overhead of a new connection / of a second message"
        yield Verdict(what, connections.ratio, 2, "", at_least=True)
    for name, figure in results.sessions.items():
        what = f"{name}, {figure.sessions} sessions"
        yield Verdict(f"{what}: most / fewest results of one", figure.fairness, 1.3, "")
        yield Verdict(
            f"{what}: largest difference to the picture made alone, of 255",
            figure.largest_difference,
            2,
            "",
        )


def round_trips_table(results: Results) -> str:
    heads = (
        "",
        "messages",
        "round trip p50, ms",
        "p95",
        "the model's time p50",
        "p95",
        "the rest p50",
        "p95",
    )
    rows = [
        ("a bare server", str(results.client.count), *_ms(results.client), *4 * (NONE,)),
        *(
            (
                each.name,
                str(each.round_trip.count),
                *_ms(each.round_trip),
                *_ms(each.model),
                *_ms(each.overhead),
            )
            for each in results.round_trips
        ),
    ]
    left_out = [f"Left out: {name}: {why}." for name, why in results.left_out.items()]
    threads = f"`fal.App` is fastest with {results.fal_threads} threads."
    return "\n\n".join([table(heads, rows), threads, *left_out])


def connections_table(results: Results) -> str:
    heads = ("", "connections", "first message p50, ms", "p95", "second message p50", "p95")
    return table(
        heads,
        [
            (each.name, str(each.first.count), *_ms(each.first), *_ms(each.second))
            for each in results.connections
        ],
    )


def sessions_table(results: Results) -> str:
    heads = (
        "",
        "sessions",
        "results/s",
        "fewest of one",
        "most of one",
        "round trip p50, ms",
        "p95",
        "largest difference",
    )
    return table(
        heads,
        [
            (
                name,
                str(each.sessions),
                *fixed(1, each.results / each.seconds),
                str(each.fewest),
                str(each.most),
                *_ms(each.round_trip),
                str(each.largest_difference),
            )
            for name, each in results.sessions.items()
        ],
    )


def slow_reader_table(results: Results) -> str:
    heads = (
        "",
        "seconds without reading",
        "proxy grows by, MB",
        "ingress grows by, MB",
        "read afterwards, MB",
        "results",
        "dropped",
        "ended with",
    )
    return table(
        heads,
        [
            (
                name,
                *fixed(0, each.seconds),
                *fixed(1, each.growth.get("Serve's proxy", 0) / 1e6),
                *fixed(1, max(map(_ingress, each.growth.items())) / 1e6),
                *fixed(1, each.received_bytes / 1e6),
                str(each.received),
                str(each.dropped),
                each.ended or "it goes on",
            )
            for name, each in results.slow_reader.items()
        ],
    )


def _ingress(grown: tuple[str, int]) -> int:
    kind, growth = grown
    return growth if kind in ("replica Ingress", "replica Fused") else 0


def _ms(seconds: Summary | None) -> tuple[str, str]:
    """To a tenth: here tenths of a millisecond count."""
    if seconds is None:
        return NONE, NONE
    p50, p95 = fixed(1, 1000 * seconds.p50, 1000 * seconds.p95)
    return p50, p95
