"""`python -m benchmarks [NAME]`: without a name all figures, into benchmarks/results/ and
docs/benchmarks.md; with one, that figure alone, on the terminal."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    bad_input,
    decoders,
    machine,
    memory,
    report,
    results,
    single_client,
    start,
    throughput,
)
from benchmarks.server import Server, serving, settings_of
from config.settings import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*ALONE, "report"], help="report: tables anew")
    parser.add_argument("--config", type=Path, default=ROOT / "serve_config.yaml")
    arguments = parser.parse_args()
    if arguments.name == "report":
        report.write(results.load())
    elif arguments.name is not None:
        print(ALONE[arguments.name](arguments.config))
    else:
        everything(arguments.config)


def everything(config: Path) -> None:
    began = time.monotonic()
    on = machine.describe()
    if on.load_average[0] > machine.BUSY:
        _tell(f"The machine is busy (load {on.load_average[0]:.1f}): the figures will be off.")
    settings = settings_of(config)
    _tell("starting the server, several times")
    started = start.measure(config)
    with serving(config) as server:
        _tell("one client")
        asyncio.run(server.first_picture(start.REQUEST))
        one = single_client.measure(server, settings)
        _tell("several clients")
        several = throughput.measure(server)
        _tell("bad input")
        refused = bad_input.measure(server)
        _tell("memory")
        remembered = memory.measure(server)
    _tell("decoders")
    decoded = decoders.measure(settings)
    found = results.Results(
        machine=on,
        minutes=(time.monotonic() - began) / 60,
        verdicts=results.verdicts(started, remembered, one, refused),
        start=started,
        memory=remembered,
        single_client=one,
        throughput=several,
        bad_input=refused,
        decoders=decoded,
    )
    results.save(found)
    report.write(found)
    print(report.verdicts_table(found.verdicts))


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _served(measure: Callable[[Server], str]) -> Callable[[Path], str]:
    """A figure of a server that has made its first picture."""

    def with_server(config: Path) -> str:
        with serving(config) as server:
            asyncio.run(server.first_picture(start.REQUEST))
            return measure(server)

    return with_server


def _single_client(config: Path) -> str:
    settings = settings_of(config)
    return _served(
        lambda server: report.single_client_table(single_client.measure(server, settings))
    )(config)


ALONE: dict[str, Callable[[Path], str]] = {
    "start": lambda config: report.start_tables(start.measure(config), os.cpu_count() or 1),
    "single_client": _single_client,
    "throughput": _served(lambda server: report.throughput_table(throughput.measure(server))),
    "bad_input": _served(lambda server: report.bad_input_line(bad_input.measure(server))),
    "memory": _served(lambda server: report.memory_table(memory.measure(server))),
    "decoders": lambda config: report.decoders_table(decoders.measure(settings_of(config))),
}


if __name__ == "__main__":
    main()
