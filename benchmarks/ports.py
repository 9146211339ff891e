"""Ports for servers that take a while to start, in the tests as well."""

import random
import socket
from itertools import islice
from pathlib import Path

# What the system gives to outgoing connections. Such a port is soon somebody's.
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
PORTS = range(10_000, 2**16)


def free_ports(count: int) -> list[int]:
    """Different ones of 127.0.0.1 that nobody has now and, if there are enough, nobody is given."""
    first, last = map(int, EPHEMERAL.read_text().split())
    ports = random.sample(PORTS, len(PORTS))
    ports.sort(key=lambda port: first <= port <= last)
    return list(islice(filter(_is_free, ports), count))


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
