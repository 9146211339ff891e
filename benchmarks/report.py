"""The figures as tables: on the terminal, and in docs/benchmarks.md between its markers."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import bad_input, decoders, memory, single_client, start, throughput
from benchmarks.machine import Machine
from benchmarks.results import Results, Verdict
from benchmarks.samples import Summary
from config.settings import ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"
MARKERS = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write(results: Results, document: Path = DOCUMENT) -> None:
    """Fills in the tables of the document; the prose around them stays."""
    tables: dict[str, Callable[[], str]] = {
        "verdicts": lambda: verdicts_table(results.verdicts),
        "machine": lambda: machine_list(results.machine, results.minutes),
        "start": lambda: start_tables(results.start, results.machine.cores),
        "single_client": lambda: single_client_table(results.single_client),
        "throughput": lambda: throughput_table(results.throughput),
        "bad_input": lambda: bad_input_line(results.bad_input),
        "memory": lambda: memory_table(results.memory),
        "decoders": lambda: decoders_table(results.decoders),
    }
    text = MARKERS.sub(
        lambda found: f"{found[1]}{tables[found[2]]()}\n{found[3]}", document.read_text()
    )
    document.write_text(text)


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
        ("", "measured", "at most", "met"),
        [
            (
                each.what,
                f"{each.measured:.2f} {each.unit}",
                f"{each.limit:g} {each.unit}",
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


def throughput_table(figures: Sequence[throughput.Figure]) -> str:
    return _table(
        (
            "clients",
            "pictures/s",
            "first preview p50, ms",
            "first preview p95",
            "picture p50",
            "picture p95",
        ),
        [
            (
                str(each.clients),
                f"{each.pictures_per_s:.2f}",
                *_milliseconds(each.first_preview),
                *_milliseconds(each.total),
            )
            for each in figures
        ],
    )


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


def _milliseconds(seconds: Summary) -> tuple[str, str]:
    return _ms(seconds.p50), _ms(seconds.p95)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.{0 if seconds > 0.02 else 1}f}"


def _fixed(digits: int, *numbers: float) -> tuple[str, ...]:
    return tuple(f"{number:.{digits}f}" for number in numbers)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
