"""The figures of the service itself as tables."""

from collections.abc import Callable, Sequence

from benchmarks import bad_input, decoders, memory, single_client, start
from benchmarks.results import Results
from benchmarks.samples import Summary
from benchmarks.tables import fixed, machine_list, milliseconds, ms, table, verdicts_table


def by_name(results: Results) -> dict[str, Callable[[], str]]:
    return {
        "verdicts": lambda: verdicts_table(results.verdicts),
        "machine": lambda: machine_list(results.machine, results.minutes),
        "start": lambda: start_tables(results.start, results.machine.cores),
        "single_client": lambda: single_client_table(results.single_client),
        "bad_input": lambda: bad_input_line(results.bad_input),
        "memory": lambda: memory_table(results.memory),
        "decoders": lambda: decoders_table(results.decoders),
    }


def start_tables(figure: start.Figure, cores: int) -> str:
    starts = sorted(figure.starts, key=lambda each: each.first_picture)
    median = starts[len(starts) // 2]
    first = ", ".join(f"{each.first_picture:.1f}" for each in figure.starts)
    ours = sum(median.cpu_s.values())
    moments = [*median.milestones.items(), ("**the first picture is there**", median.first_picture)]
    return "\n\n".join(
        [
            f"First picture after {first} s. The median start, in seconds from the command:",
            table(("", "at"), [(name, f"{seconds:.1f}") for name, seconds in moments]),
            table(
                ("replica", "process is there", "constructor begins", "constructor has ended"),
                [
                    (each.deployment, *fixed(1, each.process, each.begins, each.ends))
                    for each in median.replicas
                ],
            ),
            f"CPU seconds until then, by process: {ours:.1f} of the "
            f"{cores * median.first_picture:.1f} that {cores} cores have in that time; the whole "
            f"machine spent {median.machine_cpu_s:.1f}, other work included.",
            table(
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
    return table(
        ("stage", *names, "together", "peak memory, MB"),
        [
            (
                stage,
                *fixed(2, *(part.wall_s for part in parts), sum(part.wall_s for part in parts)),
                f"{parts[-1].peak_mb:.0f}",
            )
            for stage, parts in figure.stages.items()
        ],
    )


def single_client_table(figure: single_client.Figure) -> str:
    def row(name: str, seconds: Summary) -> tuple[str, ...]:
        over = seconds.p50 / figure.pipeline.p50
        return (name, str(seconds.count), *milliseconds(seconds), f"{over:.2f}")

    stages = ", ".join(f"{name} {ms(seconds)}" for name, seconds in figure.timings.items())
    return "\n\n".join(
        [
            f"{figure.width}x{figure.height} pixels, {figure.steps} steps, float32, milliseconds:",
            table(
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


def bad_input_line(figure: bad_input.Figure) -> str:
    return (
        f"Over {figure.all.count} refusals of {len(bad_input.REFUSED)} kinds: p50 "
        f"{ms(figure.all.p50)} ms, p95 {ms(figure.all.p95)} ms; the slowest kind, "
        f"{figure.slowest}, takes {ms(figure.slowest_s)} ms in the median."
    )


def memory_table(figure: memory.Figure) -> str:
    shares = sorted(figure.by_kind.items(), key=lambda item: -item[1].pss)
    processes = sum(share.processes for _, share in shares)
    return table(
        ("process", "how many", "PSS, MB", "RSS, MB"),
        [
            *(
                (kind, str(share.processes), *fixed(0, share.pss / 1e6, share.rss / 1e6))
                for kind, share in shares
            ),
            ("**all**", str(processes), *fixed(0, figure.pss / 1e6, figure.rss / 1e6)),
        ],
    )


def decoders_table(figures: Sequence[decoders.Figure]) -> str:
    return table(
        ("model", "pixels", "memory layout", "full VAE, ms", "TinyVAE, ms", "ratio", "decodes"),
        [
            (
                each.model,
                f"{each.size}x{each.size}",
                "channels last" if each.channels_last else "contiguous",
                ms(each.full_s),
                ms(each.tiny_s),
                f"{each.ratio:.1f}",
                str(each.repetitions),
            )
            for each in figures
        ],
    )
