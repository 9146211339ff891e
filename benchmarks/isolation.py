"""A network of the benchmark's own: nothing that it starts can be reached from elsewhere."""

import os
import shutil
import socket
import subprocess
import sys

import psutil

UNSHARE = ("unshare", "--mount", "--net")


def isolated() -> bool:
    """Whether this process has no address but those of the loopback interface."""
    inet = (socket.AF_INET, socket.AF_INET6)
    addresses = [
        each.address
        for several in psutil.net_if_addrs().values()
        for each in several
        if each.family in inet
    ]
    return all(each.startswith("127.") or each == "::1" for each in addresses)


def enter() -> None:
    """Starts `python -m benchmarks` again, with its arguments, in a network namespace that has the
    loopback interface alone. Where the user may not make one, says so and returns."""
    if isolated():
        return
    if shutil.which("ip") is None or not _may_unshare():
        print(
            "No network namespace (that needs root, unshare and ip): servers are bound to 127.0.0.1"
            " as far as Ray allows; each replica's gRPC port is open to the network.",
            file=sys.stderr,
            flush=True,
        )
        return
    again = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    script = 'ip link set lo up && exec "$@"'
    os.execvp(UNSHARE[0], [*UNSHARE, "sh", "-c", script, "sh", *again])


def _may_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which(UNSHARE[0]) is None:
        return False
    return subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL).returncode == 0
