"""A real application for tests: a Ray of its own on loopback, and `serve run` in it."""

import multiprocessing
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil
import yaml

from benchmarks.ports import free_ports
from config.settings import ROOT
from tests.integration import driver
from tests.variables import variables

# As config/serve.env has it, for this process and all that it starts. The token is not the user's.
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))

BIN = Path(sys.executable).parent
READY_WITHIN_S = 240.0
# Of the builder, and of a constructor after some attempts.
FAILURES = ("DEPLOY_FAILED", "Failed to update the deployments")


class Application:
    """`serve run` of a serve config, on ports that nobody else has. A context manager.

    Everything it starts is in a process group of its own and ends with it; its files are in a
    folder of its own, whose path is short because Ray puts sockets there.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        num_gpus: int = 0,
        env: dict[str, str] | None = None,
        host: str = "127.0.0.1",
        tuned: bool = True,
        dashboard: bool = False,
    ) -> None:
        """`env` comes on top of config/serve.env; with `tuned` False, in its place. With
        `dashboard` there is one, and `serve deploy` gives it the config, as on a cluster."""
        self._folder = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
        self._ports = free_ports(8)
        address = f"127.0.0.1:{self._ports[0]}"
        self._num_gpus = num_gpus
        self.address = address
        self.dashboard = f"http://127.0.0.1:{self._ports[7]}" if dashboard else None
        deployments = {one["name"] for one in config["applications"][0]["deployments"]}
        self._denoiser = "Denoiser" if "Denoiser" in deployments else "Fused"
        self._driver = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), driver.connect, (address,)
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        http = {**config.get("http_options", {}), "host": host, "port": self._ports[1]}
        certificate = http.get("ssl_certfile")
        self.verify = ssl.create_default_context(cafile=certificate) if certificate else True
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self._ports[1]}"
        self.log = self._folder / "serve.log"
        self.config = {**config, "proxy_location": "HeadOnly", "http_options": http}
        self._config = self._folder / "serve_config.yaml"
        self._config.write_text(yaml.safe_dump(self.config))
        self._env = {
            **os.environ,
            "RAY_ADDRESS": address,
            "RAY_TMPDIR": str(self._folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
            "RAY_COLOR_PREFIX": "0",
            **(variables(ROOT / "config" / "serve.env") if tuned else {}),
            **(env or {}),
        }

    def __enter__(self) -> "Application":
        try:
            self._start_ray()
            if self.dashboard is None:
                self._start(BIN / "serve", "run", str(self._config))
            else:
                self._deploy()
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def steps_run(self) -> int:
        """By the denoiser, wherever it is."""
        return self.counters(self._denoiser)["steps_run"]

    def counters(self, deployment: str) -> dict[str, int]:
        return self._driver.submit(driver.counters, deployment).result(60)

    def replicas(self, deployment: str) -> int:
        return self._driver.submit(driver.replicas, deployment).result(60)

    def counters_of_each(self, deployment: str) -> list[dict[str, int]]:
        """Of every replica, in no order."""
        return self._driver.submit(driver.counters_of_each, deployment).result(60)

    def kill(self, deployment: str, most: int = 1) -> None:
        """Kills replicas without warning, at most so many."""
        self._driver.submit(driver.kill, deployment, most).result(60)

    def deploy(self, config: dict[str, Any]) -> None:
        """Changes the application to another config, as `serve deploy` does."""
        self._driver.submit(driver.deploy, config).result(60)

    def settled(self) -> bool:
        """Whether every replica is running that should, and no other one is there."""
        return self._driver.submit(driver.settled).result(60)

    def trials(self) -> dict[str, bool]:
        """What one of two ingresses sees of a trial of the other one, which is convicted."""
        return self._driver.submit(driver.trials).result(60)

    def trial_whose_ingress_dies(self) -> None:
        """Returns once the other one has begun its own."""
        self._driver.submit(driver.trial_whose_ingress_dies).result(60)

    def actors(self, kind: str) -> list[psutil.Process]:
        """Processes of Ray's actors, whose name begins so: ProxyActor, ServeReplica:glimpse:…"""
        found = []
        for started in self._processes:
            for process in psutil.Process(started.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if " ".join(process.cmdline()).startswith(f"ray::{kind}"):
                        found.append(process)
        return found

    def memory(self, kind: str) -> int:
        """The bytes in memory of all of these."""
        return sum(process.memory_info().rss for process in self.actors(kind))

    def metric(self, name: str, /, **labels: str) -> float | None:
        """The sum of the series of this name that have these labels, as Prometheus would read it.
        None where there is none. Ray's processes report every ten seconds."""
        text = httpx.get(f"http://127.0.0.1:{self._ports[6]}/metrics").text
        found = []
        for known, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE):
            if labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', known)).items():
                found.append(float(value))
        return sum(found) if found else None

    def logs(self) -> str:
        return self.log.read_text(errors="replace")

    def _start_ray(self) -> None:
        gcs, _, client, agent, agent_grpc, runtime_env, metrics, dashboard = self._ports
        self._start(
            BIN / "ray",
            *("start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}"),
            *("--num-cpus=8", f"--num-gpus={self._num_gpus}", f"--temp-dir={self._folder}"),
            f"--include-dashboard={'false' if self.dashboard is None else 'true'}",
            f"--dashboard-port={dashboard}",
            *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
            *(f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}"),
            *(f"--runtime-env-agent-port={runtime_env}", "--object-store-memory=200000000"),
            *("--min-worker-port=0", "--max-worker-port=0"),
        )
        eventually(lambda: _listens(gcs))
        if self.dashboard is not None:
            eventually(lambda: _listens(dashboard))

    def _deploy(self) -> None:
        """Again, where a dashboard that has just started drops the connection."""

        def deployed() -> bool:
            command = [
                str(BIN / "serve"),
                "deploy",
                "--address",
                str(self.dashboard),
                str(self._config),
            ]
            with self.log.open("ab") as log:
                done = subprocess.run(
                    command, cwd=ROOT, env=self._env, stdout=log, stderr=subprocess.STDOUT
                )
            return done.returncode == 0

        try:
            eventually(deployed)
        except TimeoutError:
            raise RuntimeError(f"it cannot be deployed:\n{self.logs()[-4000:]}") from None

    def _start(self, program: Path, *arguments: str) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [program, *arguments],
                cwd=ROOT,
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            if any(process.poll() is not None for process in self._processes):
                raise RuntimeError(f"a process ended by itself:\n{self.logs()[-4000:]}")
            if any(failure in self.logs() for failure in FAILURES):
                raise RuntimeError(f"the application cannot be deployed:\n{self.logs()[-4000:]}")
            try:
                answer = httpx.get(f"{self.url}/health", timeout=5, verify=self.verify)
                return answer.status_code == 200
            except httpx.TransportError:
                return False

        try:
            eventually(ready, READY_WITHIN_S)
        except TimeoutError:
            raise RuntimeError(f"it does not become ready:\n{self.logs()[-4000:]}") from None

    def _stop(self) -> None:
        self._driver.shutdown()
        for process in reversed(self._processes):  # serve first: it takes its application down
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def eventually(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Returns once a condition holds. Raises `TimeoutError` if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come to be within {seconds} s")
        time.sleep(0.2)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
