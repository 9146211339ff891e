"""The figures as tables: on the terminal, and in docs/benchmarks.md between its markers."""

import re
from collections.abc import Callable, Sequence

from benchmarks import bad_input, decoders, limit, memory, serving, single_client, start
from benchmarks.machine import Machine
from benchmarks.results import Results, Verdict
from benchmarks.samples import Summary
from benchmarks.task import PREVIEW_EVERY
from config.settings import ROOT

NONE = "–"
KNOWN_TABLES = frozenset(
    {
        *("verdicts", "machine", "start", "single_client", "bad_input", "memory", "decoders"),
        *("serving_machine", "serving_verdicts", "serving", "previews", "peak_memory"),
        *("limit", "batching"),
    }
)
DOCUMENT = ROOT / "docs" / "benchmarks.md"
MARKERS = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write(foundation: Results | None, served: serving.Results | None) -> None:
    """Fills in the tables of the document, and draws its plots; the prose around them stays, and so
    does what there are no results for.
    """
    tables: dict[str, Callable[[], str]] = {}
    if foundation is not None:
        tables |= foundation_tables(foundation)
    if served is not None:
        from benchmarks import plots  # a large library, for this alone

        tables |= serving_tables(served)
        plots.draw(served)

    def filled(found: re.Match[str]) -> str:
        if found[2] not in KNOWN_TABLES:
            raise ValueError(f"{DOCUMENT.name} asks for figures that nobody makes: {found[2]}")
        return f"{found[1]}{tables[found[2]]()}\n{found[3]}" if found[2] in tables else found[0]

    DOCUMENT.write_text(MARKERS.sub(filled, DOCUMENT.read_text()))


def foundation_tables(results: Results) -> dict[str, Callable[[], str]]:
    return {
        "verdicts": lambda: verdicts_table(results.verdicts),
        "machine": lambda: machine_list(results.machine, results.minutes),
        "start": lambda: start_tables(results.start, results.machine.cores),
        "single_client": lambda: single_client_table(results.single_client),
        "bad_input": lambda: bad_input_line(results.bad_input),
        "memory": lambda: memory_table(results.memory),
        "decoders": lambda: decoders_table(results.decoders),
    }


def serving_tables(results: serving.Results) -> dict[str, Callable[[], str]]:
    return {
        "serving_machine": lambda: machine_list(results.machine, results.minutes),
        "serving_verdicts": lambda: verdicts_table(serving.verdicts(results)),
        "serving": lambda: serving_table(results),
        "previews": lambda: previews_table(results),
        "peak_memory": lambda: peak_memory_table(results),
        "limit": lambda: limit_table(results.limit),
        "batching": lambda: batching_table(results.limit),
    }


def machine_list(machine: Machine, minutes: float) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    load = ", ".join(f"{each:.1f}" for each in machine.load_average)
    return "\n".join(
        [
            f"- {machine.cpu}, {machine.cores} cores, {machine.memory_gb:.0f} GB; no GPU was used",
            f"- Python {machine.python}, {versions}",
            f"- commit {machine.commit}, {machine.date}, in {minutes:.0f} minutes",
            f"- load average before the run: {load} (1, 5, 15 minutes)",
        ]
    )


def verdicts_table(verdicts: Sequence[Verdict]) -> str:
    return _table(
        ("", "measured", "promised", "met"),
        [
            (
                each.what,
                f"{each.measured:.2f} {each.unit}".rstrip(),
                f"at {'least' if each.at_least else 'most'} {each.limit:g} {each.unit}".rstrip(),
                "yes" if each.met else "**no**",
            )
            for each in verdicts
        ],
    )


def start_tables(figure: start.Figure, cores: int) -> str:
    starts = sorted(figure.starts, key=lambda each: each.first_picture)
    median = starts[len(starts) // 2]
    first = ", ".join(f"{each.first_picture:.1f}" for each in figure.starts)
    ours = sum(median.cpu_s.values())
    moments = [*median.milestones.items(), ("**the first picture is there**", median.first_picture)]
    return "\n\n".join(
        [
            f"First picture after {first} s. The median start, in seconds from the command:",
            _table(("", "at"), [(name, f"{seconds:.1f}") for name, seconds in moments]),
            _table(
                ("replica", "process is there", "constructor begins", "constructor has ended"),
                [
                    (each.deployment, *_fixed(1, each.process, each.begins, each.ends))
                    for each in median.replicas
                ],
            ),
            f"CPU seconds until then, by process: {ours:.1f} of the "
            f"{cores * median.first_picture:.1f} that {cores} cores have in that time; the whole "
            f"machine spent {median.machine_cpu_s:.1f}, other work included.",
            _table(
                ("process", "CPU s"),
                sorted(
                    ((kind, f"{seconds:.1f}") for kind, seconds in median.cpu_s.items()),
                    key=lambda row: -float(row[1]),
                ),
            ),
            "Each stage alone in a fresh process, in seconds:",
            _stages_table(figure),
        ]
    )


def _stages_table(figure: start.Figure) -> str:
    names = [part.name for part in next(iter(figure.stages.values()))]
    return _table(
        ("stage", *names, "together", "peak memory, MB"),
        [
            (
                stage,
                *_fixed(2, *(part.wall_s for part in parts), sum(part.wall_s for part in parts)),
                f"{parts[-1].peak_mb:.0f}",
            )
            for stage, parts in figure.stages.items()
        ],
    )


def single_client_table(figure: single_client.Figure) -> str:
    def row(name: str, seconds: Summary) -> tuple[str, ...]:
        over = seconds.p50 / figure.pipeline.p50
        return (name, str(seconds.count), *_milliseconds(seconds), f"{over:.2f}")

    stages = ", ".join(f"{name} {_ms(seconds)}" for name, seconds in figure.timings.items())
    return "\n\n".join(
        [
            f"{figure.width}x{figure.height} pixels, {figure.steps} steps, float32, milliseconds:",
            _table(
                ("", "pictures", "p50", "p95", "p50 / pipeline's"),
                [
                    row(f"diffusers pipeline, {figure.pipeline_threads} threads", figure.pipeline),
                    row("service, no previews", figure.without_previews),
                    row("service, previews every five steps", figure.with_previews),
                    row("service, first preview", figure.first_preview),
                ],
            ),
            f"Previews add {100 * figure.previews_add:.1f} %; {figure.previews_received:.1f} a "
            f"picture were received. Without previews the server's own times are, in the median: "
            f"{stages}. The service's picture and the pipeline's differ by at most "
            f"{figure.largest_difference} of 255.",
        ]
    )


def serving_table(results: serving.Results) -> str:
    bare = results.pipeline
    rows: list[Sequence[str]] = [
        (
            "the limit",
            str(lap.jobs),
            f"{lap.pictures_per_s:.2f}",
            "1.00",
            *(NONE, NONE),
            *(_ms(lap.jobs / lap.pictures_per_s), NONE),
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
            *_milliseconds(bare.first_preview),
            *_milliseconds(bare.with_previews),
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
                        *_milliseconds(each.first_preview),
                        *_milliseconds(each.total),
                        _rows(run),
                    )
                )
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
    return "\n\n".join([_table(heads, rows), *left_out, *plots])


def previews_table(results: serving.Results) -> str:
    def every(steps: int) -> str:
        return {0: "off", 1: "every step"}.get(steps, f"every {steps} steps")

    bare = results.pipeline
    alone = [
        ("diffusers pipeline", "1", every(steps), f"{1 / total.p50:.2f}", *[NONE] * 3)
        + (_ms(total.p50), "2")
        for steps, total in ((PREVIEW_EVERY, bare.with_previews), (0, bare.without_previews))
    ]
    return _table(
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
                _ms(each.total.p50),
                _rows(run),
            )
            for server in results.servers
            for run in server.runs
            for each in (run.figure,)
        ],
    )


def _rows(run: serving.Run) -> str:
    return NONE if run.rows_per_tick is None else f"{run.rows_per_tick:.1f}"


def peak_memory_table(results: serving.Results) -> str:
    peaks = [
        ("the limit", results.limit.peak_pss),
        ("diffusers pipeline", results.pipeline.peak_pss),
        *((server.name, server.peak_pss) for server in results.servers),
    ]
    return _table(("", "PSS, MB"), [(name, f"{pss / 1e6:.0f}") for name, pss in peaks])


def limit_table(figure: limit.Figure) -> str:
    def layout(channels_last: bool) -> str:
        return "channels last" if channels_last else "contiguous"

    return _table(
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
                _ms(lap.tick_s),
                _ms(lap.preview_s),
                _ms(lap.finals_s),
                f"{lap.pictures_per_s:.2f}",
                str(lap.threads),
                layout(lap.network_channels_last),
                layout(lap.tiny_vae_channels_last),
                layout(lap.full_vae_channels_last),
            )
            for lap in figure.laps
        ],
    )


def batching_table(figure: limit.Figure) -> str:
    """Ticks in ms; in brackets how much sooner than one job after the other."""
    sizes = sorted({point.size for point in figure.curves})
    jobs = sorted({point.jobs for point in figure.curves})
    ticks = {(point.size, point.jobs): point.tick_s for point in figure.curves}

    def cell(size: int, n: int) -> str:
        return f"{_ms(ticks[size, n])} ({n * ticks[size, jobs[0]] / ticks[size, n]:.1f})"

    table = _table(
        ("jobs", *(f"{size}x{size}, ms" for size in sizes)),
        [(str(n), *(cell(size, n) for size in sizes)) for n in jobs],
    )
    return f"{table}\n\n![Steps a second by jobs](images/benchmark-batching.svg)"


def bad_input_line(figure: bad_input.Figure) -> str:
    return (
        f"Over {figure.all.count} refusals of {len(bad_input.REFUSED)} kinds: p50 "
        f"{_ms(figure.all.p50)} ms, p95 {_ms(figure.all.p95)} ms; the slowest kind, "
        f"{figure.slowest}, takes {_ms(figure.slowest_s)} ms in the median."
    )


def memory_table(figure: memory.Figure) -> str:
    shares = sorted(figure.by_kind.items(), key=lambda item: -item[1].pss)
    processes = sum(share.processes for _, share in shares)
    return _table(
        ("process", "how many", "PSS, MB", "RSS, MB"),
        [
            *(
                (kind, str(share.processes), *_fixed(0, share.pss / 1e6, share.rss / 1e6))
                for kind, share in shares
            ),
            ("**all**", str(processes), *_fixed(0, figure.pss / 1e6, figure.rss / 1e6)),
        ],
    )


def decoders_table(figures: Sequence[decoders.Figure]) -> str:
    return _table(
        ("model", "pixels", "memory layout", "full VAE, ms", "TinyVAE, ms", "ratio", "decodes"),
        [
            (
                each.model,
                f"{each.size}x{each.size}",
                "channels last" if each.channels_last else "contiguous",
                _ms(each.full_s),
                _ms(each.tiny_s),
                f"{each.ratio:.1f}",
                str(each.repetitions),
            )
            for each in figures
        ],
    )


def _milliseconds(seconds: Summary | None) -> tuple[str, str]:
    return (NONE, NONE) if seconds is None else (_ms(seconds.p50), _ms(seconds.p95))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.{0 if seconds > 0.02 else 1}f}"


def _fixed(digits: int, *numbers: float) -> tuple[str, ...]:
    return tuple(f"{number:.{digits}f}" for number in numbers)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
