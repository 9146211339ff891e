"""The figures of serving as tables."""

from collections.abc import Callable, Sequence

from benchmarks import limit, network, promises, serving
from benchmarks.tables import NONE, machine_list, milliseconds, ms, table, verdicts_table
from benchmarks.task import PREVIEW_EVERY


def by_name(results: serving.Results) -> dict[str, Callable[[], str]]:
    return {
        "serving_machine": lambda: machine_list(results.machine, results.minutes),
        "serving_verdicts": lambda: verdicts_table(promises.verdicts(results)),
        "serving": lambda: serving_table(results),
        "previews": lambda: previews_table(results),
        "cpu": lambda: cpu_table(results),
        "peak_memory": lambda: peak_memory_table(results),
        "limit": lambda: limit_table(results.limit),
        "network": lambda: network_table(results.network),
        "batching": lambda: batching_table(results.limit),
    }


def serving_table(results: serving.Results) -> str:
    heads = (
        "",
        "clients",
        "pictures/s",
        "of the limit",
        "first preview p50, ms",
        "first preview p95",
        "picture p50",
        "picture p95",
        "rows a tick",
    )
    left_out = [f"Left out: {name}: {why}." for name, why in results.left_out.items()]
    plots = [
        "![Pictures a second by clients](images/benchmark-throughput.svg)",
        "![Time to the first preview by clients](images/benchmark-first-preview.svg)",
    ]
    return "\n\n".join([table(heads, _serving_rows(results)), *left_out, *plots])


def _serving_rows(results: serving.Results) -> list[Sequence[str]]:
    bare = results.pipeline
    rows: list[Sequence[str]] = [
        (
            "the limit",
            str(lap.jobs),
            f"{lap.pictures_per_s:.2f}",
            "1.00",
            *(NONE, NONE),
            *(ms(lap.jobs / lap.pictures_per_s), NONE),
            f"{2 * lap.jobs}",
        )
        for lap in results.limit.laps
    ]
    alone = results.lap(1)
    rows.append(
        (
            f"diffusers pipeline, {bare.threads} threads",
            "1",
            f"{1 / bare.with_previews.p50:.2f}",
            NONE if alone is None else f"{1 / bare.with_previews.p50 / alone.pictures_per_s:.2f}",
            *milliseconds(bare.first_preview),
            *milliseconds(bare.with_previews),
            "2",
        )
    )
    for server in results.servers:
        for run in server.runs:
            each = run.figure
            if each.load.preview_every == PREVIEW_EVERY:
                rows.append(
                    (
                        server.name,
                        str(each.load.clients),
                        f"{each.pictures_per_s:.2f}",
                        f"{run.of_limit:.2f}",
                        *milliseconds(each.first_preview),
                        *milliseconds(each.total),
                        _rows(run),
                    )
                )
    return rows


def previews_table(results: serving.Results) -> str:
    def every(steps: int) -> str:
        return {0: "off", 1: "every step"}.get(steps, f"every {steps} steps")

    bare = results.pipeline
    alone = [
        ("diffusers pipeline", "1", every(steps), f"{1 / total.p50:.2f}", *[NONE] * 3)
        + (ms(total.p50), "2")
        for steps, total in ((PREVIEW_EVERY, bare.with_previews), (0, bare.without_previews))
    ]
    return table(
        (
            "",
            "clients",
            "previews",
            "pictures/s",
            "delivered",
            "of these rough",
            "dropped",
            "picture p50, ms",
            "rows a tick",
        ),
        alone
        + [
            (
                server.name,
                str(each.load.clients),
                every(each.load.preview_every),
                f"{each.pictures_per_s:.2f}",
                str(each.previews),
                str(each.rough),
                str(each.dropped),
                ms(each.total.p50),
                _rows(run),
            )
            for server in results.servers
            for run in server.runs
            for each in (run.figure,)
        ],
    )


def _rows(run: serving.Run) -> str:
    return NONE if run.rows_per_tick is None else f"{run.rows_per_tick:.1f}"


def cpu_table(results: serving.Results) -> str:
    """By a crowd of clients, with previews."""
    runs = {
        server.name: run
        for server in results.servers
        if (run := server.under(serving.CROWD)) is not None and run.rows_per_tick is not None
    }
    kinds = {kind: seconds for run in runs.values() for kind, seconds in run.cpu_s.items()}

    def cells(of_run: Callable[[serving.Run], float | None]) -> list[str]:
        each = (of_run(run) for run in runs.values())
        return [NONE if seconds is None else f"{1000 * seconds:.0f}" for seconds in each]

    def spent(kind: str) -> Callable[[serving.Run], float | None]:
        return lambda run: run.cpu_s[kind] / run.figure.pictures if kind in run.cpu_s else None

    return table(
        ("process", *runs),
        [
            *((kind, *cells(spent(kind))) for kind in sorted(kinds, key=lambda kind: -kinds[kind])),
            ("**all**", *cells(lambda run: sum(run.cpu_s.values()) / run.figure.pictures)),
            (
                "every core, as long as the limit takes",
                *cells(lambda run: results.machine.cores / run.bare.limit_pictures_per_s),
            ),
        ],
    )


def peak_memory_table(results: serving.Results) -> str:
    peaks = [
        ("the limit", results.limit.peak_pss),
        ("diffusers pipeline", results.pipeline.peak_pss),
        *((server.name, server.peak_pss) for server in results.servers),
    ]
    return table(("", "PSS, MB"), [(name, f"{pss / 1e6:.0f}") for name, pss in peaks])


def limit_table(figure: limit.Figure) -> str:
    def layout(channels_last: bool) -> str:
        return "channels last" if channels_last else "contiguous"

    return table(
        (
            "jobs",
            "tick, ms",
            "previews of a picture, ms",
            "finals of the batch, ms",
            "pictures/s",
            "threads",
            "network",
            "TinyVAE",
            "full VAE",
        ),
        [
            (
                str(lap.jobs),
                ms(lap.tick_s),
                ms(lap.preview_s),
                ms(lap.finals_s),
                f"{lap.pictures_per_s:.2f}",
                str(lap.threads),
                layout(lap.network_channels_last),
                layout(lap.tiny_vae_channels_last),
                layout(lap.full_vae_channels_last),
            )
            for lap in figure.laps
        ],
    )


def network_table(figures: Sequence[network.Figure]) -> str:
    def cell(seconds: float, figure: network.Figure) -> str:
        return f"{ms(seconds)} ({figure.diffusers_s / seconds:.2f})"

    return table(
        ("rows", "diffusers, ms", "text once", "and traced", "and shared out"),
        [
            (
                str(each.rows),
                ms(each.diffusers_s),
                *(cell(s, each) for s in (each.text_once_s, each.traced_s, each.shared_out_s)),
            )
            for each in figures
        ],
    )


def batching_table(figure: limit.Figure) -> str:
    """Ticks in ms; in brackets how much sooner than one job after the other."""
    sizes = sorted({point.size for point in figure.curves})
    jobs = sorted({point.jobs for point in figure.curves})
    ticks = {(point.size, point.jobs): point.tick_s for point in figure.curves}

    def cell(size: int, n: int) -> str:
        return f"{ms(ticks[size, n])} ({n * ticks[size, jobs[0]] / ticks[size, n]:.1f})"

    batches = table(
        ("jobs", *(f"{size}x{size}, ms" for size in sizes)),
        [(str(n), *(cell(size, n) for size in sizes)) for n in jobs],
    )
    return f"{batches}\n\n![Steps a second by jobs](images/benchmark-batching.svg)"
