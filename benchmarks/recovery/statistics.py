"""What some paired measurements say of the truth."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean of `count` measurements, and where the true mean lies with 95 % confidence."""

    count: int
    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """By Student's t; of at least three values."""
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = students_t(len(values) - 1) * error
    return Interval(len(values), mean, mean - half, mean + half)


def ratio_interval(ratios: Sequence[float]) -> Interval:
    """The same of ratios, whose logarithms are what is symmetrical."""
    logs = interval([math.log(ratio) for ratio in ratios])
    return Interval(logs.count, math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high))


@cache
def students_t(degrees: int) -> float:
    """The quantile that leaves 2.5 % on either side, by adding up the density."""
    if degrees < 2:
        raise ValueError("two measurements say nothing of how far they are off")
    t = np.linspace(0, 200, 2_000_001)
    mass = np.cumsum((1 + t**2 / degrees) ** (-(degrees + 1) / 2))
    return float(t[np.searchsorted(mass, CONFIDENCE * mass[-1])])
