"""The memory of all processes together, at rest."""

import time
from collections import defaultdict
from dataclasses import dataclass

from benchmarks.processes import used
from benchmarks.server import Server

REST_S = 5.0


@dataclass(slots=True)
class Share:
    """Bytes of all processes of a kind. See `processes.Used` for what the two are."""

    processes: int = 0
    pss: int = 0
    rss: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    by_kind: dict[str, Share]

    @property
    def pss(self) -> int:
        return sum(share.pss for share in self.by_kind.values())

    @property
    def rss(self) -> int:
        return sum(share.rss for share in self.by_kind.values())


def measure(server: Server) -> Figure:
    time.sleep(REST_S)
    shares: dict[str, Share] = defaultdict(Share)
    for process in used(server.root):
        share = shares[process.kind]
        share.processes += 1
        share.pss += process.pss
        share.rss += process.rss
    return Figure(dict(shares))
