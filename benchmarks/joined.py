"""A process of its own that has joined a server's Ray, because a process can be the driver of one
Ray at a time. It answers each line of its standard input with a line of JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.server import Server
from config.settings import ROOT


class Joined:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that has joined the server's Ray has ended")
        return json.loads(answer)


@contextmanager
def joined(server: Server, module: str) -> Iterator[Joined]:
    """Runs a module, with the address of the Ray of a server that is up."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, server.ray_address()],
        cwd=ROOT,
        env=os.environ | server.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Joined(process)
    finally:
        process.communicate()  # the end of its input is the end of it


def answer(look: Callable[[], Any]) -> None:
    """What such a module does."""
    for _ in sys.stdin:
        print(json.dumps(look()), flush=True)
