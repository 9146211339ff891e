"""Medians and 95th percentiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Summary:
    """Of `count` measurements, in their unit. With few of them, p95 is near the largest."""

    count: int
    p50: float
    p95: float


def summary(values: Sequence[float]) -> Summary:
    p50, p95 = np.percentile(values, [50, 95])
    return Summary(len(values), float(p50), float(p95))
