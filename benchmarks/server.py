"""Servers under measurement, each on a port and in a folder of its own: what `make serve` starts,
and the peers."""

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from benchmarks.client import NotServed, Received, generate
from benchmarks.ports import free_ports
from benchmarks.processes import as_nice_as_workers
from config.settings import ROOT, AppSettings

READY_TIMEOUT_S = 600.0  # of a busy machine; one that ends by itself is noticed at once
STOP_TIMEOUT_S = 30.0
POLL_S = 0.1
CONFIG = "serve_config.yaml"  # in the server's folder: what it was started with
NOTHING: Mapping[str, str] = {}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}")


class Server:
    def __init__(
        self,
        process: subprocess.Popen[bytes],
        folder: Path,
        url: str,
        environment: Mapping[str, str],
    ) -> None:
        self.started = time.time()
        self.root = psutil.Process(process.pid)
        self.url = url
        self.environment = environment
        self._process = process
        self.folder = folder

    def check_alive(self) -> None:
        """Raises `RuntimeError`, with the end of its log, when the server has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the server has ended:\n{self._log()[-3000:]}")

    def logged(self, text: str) -> float | None:
        """Seconds from the start to the first line with this text in the server's output."""
        return self._first_time(self._log(), text)

    def replica_logged(self, deployment: str, text: str) -> float | None:
        """The same, in the log file of a deployment's replica."""
        logs = self.folder.glob(f"ray/session_2*/logs/serve/replica_*_{deployment}_*.log")
        return self._first_time("".join(log.read_text() for log in logs), text)

    def worker_logs(self) -> str:
        """All that Ray's workers have written to standard error, whole lines alone."""
        logs = self.folder.glob("ray/session_2*/logs/worker-*.err")
        return "".join(log.read_text(errors="replace").rpartition("\n")[0] + "\n" for log in logs)

    def ray_address(self) -> str:
        """Where the server's Ray can be joined, with the server's environment."""
        [port] = self.folder.glob("ray/session_2*/gcs_server_port_*")
        return f"127.0.0.1:{port.read_text()}"

    def _log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def _first_time(self, log: str, text: str) -> float | None:
        for line in log.splitlines():
            stamp = TIMESTAMP.search(line)
            if text in line and stamp is not None:
                moment = datetime.strptime(stamp.group(), "%Y-%m-%d %H:%M:%S,%f")
                return moment.timestamp() - self.started
        return None

    async def first_picture(self, fields: Mapping[str, Any]) -> Received:
        """Asks again and again until the server takes the request."""
        async with asyncio.timeout(READY_TIMEOUT_S), httpx.AsyncClient(base_url=self.url) as client:
            while True:
                self.check_alive()
                try:
                    return await generate(client, fields)
                except NotServed:
                    await asyncio.sleep(POLL_S)


@contextmanager
def serving(
    config: Path, environment: Mapping[str, str] = NOTHING, root: Path = ROOT
) -> Iterator[Server]:
    """Runs what `make serve` runs, with another HTTP port and another folder for Ray's files: the
    code of the checkout at `root`. Stops it, and only it, in the end.
    """
    with _folder() as folder:
        [port] = free_ports(1)
        patched = folder / CONFIG
        patched.write_text(_with_port(config, port))
        if (variables := config.with_suffix(".env")).exists():
            shutil.copy(variables, patched.with_suffix(".env"))
        script = "\n".join(_make_serve(patched, root))
        environment = {**_of_ray(folder), **environment}
        with _running(["sh", "-ec", script], environment, folder, port, root) as server:
            yield server


@contextmanager
def serving_peer(
    command: Sequence[str], environment: Mapping[str, str], port: int
) -> Iterator[Server]:
    """Runs the command of another server, as nice as Ray's workers are, so that other work on the
    machine takes from all alike. Stops it, and only it, in the end."""
    with (
        _folder() as folder,
        _running(as_nice_as_workers(command), environment, folder, port) as server,
    ):
        yield server


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="glimpse-"))  # short: Ray puts sockets in it
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _running(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    port: int,
    root: Path = ROOT,
) -> Iterator[Server]:
    # That checkout's code, whichever one the environment that runs this was made for.
    environment = {"PYTHONPATH": str(root), **environment}
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, folder, f"http://127.0.0.1:{port}", environment)
    finally:
        _stop(process)


def _of_ray(folder: Path) -> dict[str, str]:
    return {
        "RAY_TMPDIR": str(folder),
        # Ray's own switch for binding to 127.0.0.1, rather than to the machine's address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # A local Ray asks for a token by default; with one of ours, counters.py can join it.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def _make_serve(config: Path, root: Path) -> list[str]:
    """The commands of the target, less the installation, in the environment that runs this."""
    variables = [f"CONFIG={config}", f"BIN={Path(sys.executable).parent}"]
    make = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.installed", "serve"]
    return subprocess.check_output([*make, *variables], cwd=root, text=True).splitlines()


def _with_port(config: Path, port: int) -> str:
    fields = yaml.safe_load(config.read_text())
    fields.setdefault("http_options", {})["port"] = port
    return yaml.safe_dump(fields, sort_keys=False)


def settings_of(config: Path) -> AppSettings:
    """The settings of a serve config's first application."""
    fields = yaml.safe_load(config.read_text())
    return AppSettings.model_validate(fields["applications"][0].get("args", {}))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """`serve run` takes its Ray along when it is told to end; what lingers is killed, by its id."""
    if process.poll() is not None:
        return
    root = psutil.Process(process.pid)
    everything = [root, *root.children(recursive=True)]
    for above in [*root.children(), root]:
        above.terminate()
    _, lingering = psutil.wait_procs(everything, timeout=STOP_TIMEOUT_S)
    for each in lingering:
        each.kill()
    process.wait()
