"""`python -m benchmarks [NAME]`: without a name all figures, into benchmarks/results/ and
docs/benchmarks.md, and so with `serving`, `realtime` and `neighbours`; with another one, that
figure alone, on the terminal. `recovery` has arguments of its own, and writes
docs/reliability.md."""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import (
    bad_input,
    decoders,
    environments,
    isolation,
    machine,
    memory,
    neighbours,
    neighbours_tables,
    network,
    realtime,
    realtime_tables,
    report,
    results,
    serving,
    serving_tables,
    single_client,
    start,
    stored,
)
from benchmarks.foundation_tables import (
    bad_input_line,
    decoders_table,
    memory_table,
    single_client_table,
    start_tables,
)
from benchmarks.recovery import command as recovery
from benchmarks.server import Server, settings_of
from benchmarks.server import serving as server_of
from benchmarks.tables import verdicts_table
from config.settings import ROOT

RECOVERY = "recovery"


def main() -> None:
    # Told to end, it still stops the servers that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    if sys.argv[1:2] == [RECOVERY]:
        recovery.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "name",
        nargs="?",
        choices=[*ALONE, *IN_TURNS, RECOVERY, "report"],
        help="report: tables anew",
    )
    parser.add_argument("--config", type=Path, default=ROOT / "serve_config.yaml")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="with serving, realtime or neighbours: every part once, for a look whether all works; "
        "nothing is written",
    )
    arguments = parser.parse_args()
    if arguments.quick and arguments.name not in IN_TURNS:
        parser.error("--quick is for serving, realtime and neighbours")
    if arguments.name == "report":
        report.write(
            stored.find(results.Results, results.PATH),
            stored.find(serving.Results, serving.PATH),
            stored.find(realtime.Results, realtime.PATH),
            stored.find(neighbours.Results, neighbours.PATH),
        )
        report.write_recovery()
        return
    if arguments.name in (None, *IN_TURNS):
        import matplotlib  # noqa: F401  missing, it is better found out before than after

        environments.install()
    isolation.enter()
    config = arguments.config.resolve()
    if arguments.name in IN_TURNS:
        IN_TURNS[arguments.name](config, arguments.quick)
    elif arguments.name is not None:
        print(ALONE[arguments.name](config))
    else:
        foundation(config)
        serve(config, quick=False)


def foundation(config: Path) -> None:
    began = time.monotonic()
    on = machine.describe()
    _warn_if_busy(on)
    settings = settings_of(config)
    _tell("starting the server, several times")
    started = start.measure(config)
    with server_of(config) as server:
        _tell("one client")
        asyncio.run(server.first_picture(start.REQUEST))
        one = single_client.measure(server, settings)
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
        bad_input=refused,
        decoders=decoded,
    )
    stored.save(found, results.PATH)
    report.write(foundation=found)
    print(verdicts_table(found.verdicts))


def serve(config: Path, quick: bool) -> None:
    _warn_if_busy(machine.describe())
    found = serving.measure(config, serving.QUICK if quick else serving.FULL)
    if quick:
        from benchmarks import plots

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / serving.PATH.name
            stored.save(found, path)
            again = stored.find(serving.Results, path)
            assert again == found, "results can be read back as they were written"
            plots.draw(found, Path(folder))
    else:
        stored.save(found, serving.PATH)
        report.write(served=found)
    _print(serving_tables.by_name(found))


def talk(config: Path, quick: bool) -> None:
    """Realtime sessions."""
    _warn_if_busy(machine.describe())
    found = realtime.measure(config, realtime.QUICK if quick else realtime.FULL)
    if not quick:
        stored.save(found, realtime.PATH)
        report.write(talked=found)
    _print(realtime_tables.by_name(found))


def send(config: Path, quick: bool) -> None:
    """Input pictures of one client, beside the pictures of another."""
    _warn_if_busy(machine.describe())
    found = neighbours.measure(config, neighbours.QUICK if quick else neighbours.FULL)
    if not quick:
        stored.save(found, neighbours.PATH)
        report.write(beside=found)
    _print(neighbours_tables.by_name(found))


def _print(tables: Mapping[str, Callable[[], str]]) -> None:
    for table in tables.values():
        print(table(), end="\n\n")


def _warn_if_busy(on: machine.Machine) -> None:
    if on.load_average[0] > machine.BUSY:
        _tell(f"The machine is busy (load {on.load_average[0]:.1f}): the figures will be off.")


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _served(measure: Callable[[Server], str]) -> Callable[[Path], str]:
    """A figure of a server that has made its first picture."""

    def with_server(config: Path) -> str:
        with server_of(config) as server:
            asyncio.run(server.first_picture(start.REQUEST))
            return measure(server)

    return with_server


def _single_client(config: Path) -> str:
    settings = settings_of(config)
    return _served(lambda server: single_client_table(single_client.measure(server, settings)))(
        config
    )


# Several servers are measured in turns, and all figures come from one run.
IN_TURNS: dict[str, Callable[[Path, bool], None]] = {
    "serving": serve,
    "realtime": talk,
    "neighbours": send,
}

ALONE: dict[str, Callable[[Path], str]] = {
    "start": lambda config: start_tables(start.measure(config), os.cpu_count() or 1),
    "single_client": _single_client,
    "bad_input": _served(lambda server: bad_input_line(bad_input.measure(server))),
    "memory": _served(lambda server: memory_table(memory.measure(server))),
    "network": lambda config: serving_tables.network_table(network.measure(config)),
    "decoders": lambda config: decoders_table(decoders.measure(settings_of(config))),
}


if __name__ == "__main__":
    main()
