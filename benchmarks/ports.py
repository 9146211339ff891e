"""Ports for servers that take a while to start, in the tests as well."""

import random
import socket
from pathlib import Path

# What the system gives to outgoing connections. Such a port is soon somebody's.
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000


def free_ports(count: int) -> list[int]:
    """Different ones of 127.0.0.1 that nobody has now, and nobody is given."""
    end = int(EPHEMERAL.read_text().split()[0])
    candidates = range(LOWEST, end)
    free: list[int] = []
    for port in random.sample(candidates, len(candidates)):
        if len(free) == count:
            break
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
    return free
