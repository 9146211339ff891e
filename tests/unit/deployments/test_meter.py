"""`deployments.meter`: which series each call feeds, and that docs/operating.md lists them."""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from config.settings import ROOT
from deployments import handles, meter
from deployments.meter import SERIES, STAGES, Series, ServeMeter
from glimpse.meter import Meter, Unmetered


class FakeMetric:
    def __init__(
        self,
        name: str,
        description: str,
        *options: Any,  # of a histogram the boundaries, then the keys of labels
    ) -> None:
        self.name, self.description = name, description
        self.keys = options[-1]
        self.boundaries = options[0] if len(options) == 2 else None
        self.seen: list[Any] = []
        self.broken = False

    def inc(self, value: float, labels: dict[str, str]) -> None:
        self._take(value, labels)

    def observe(self, value: float) -> None:
        self._take(value, {})

    def _record(self, value: float, labels: dict[str, str]) -> None:
        self._take(value, labels)

    def _take(self, value: float, labels: dict[str, str]) -> None:
        if self.broken:
            raise ValueError("no")
        assert set(labels) == set(self.keys)
        self.seen.append((value, *labels.values()))


class FakeMetrics:
    """Stands in for `ray.serve.metrics`."""

    def __init__(self) -> None:
        self.made: dict[str, FakeMetric] = {}

    def Counter(self, *arguments: Any) -> FakeMetric:
        return self._make(*arguments)

    def Histogram(self, *arguments: Any) -> FakeMetric:
        return self._make(*arguments)

    def _make(self, name: str, *arguments: Any) -> FakeMetric:
        self.made[name] = FakeMetric(name, *arguments)
        return self.made[name]

    @property
    def seen(self) -> dict[str, list[Any]]:
        return {name: metric.seen for name, metric in self.made.items() if metric.seen}


CALLS: list[tuple[Callable[[Meter], None], dict[str, list[Any]]]] = [
    (
        lambda meter: meter.ended("done", 2.5),
        {"glimpse_generations": [(1, "done")], "glimpse_generation_seconds": [(2.5,)]},
    ),
    # How long a client stayed, or a failure took, says nothing of how long pictures take.
    (lambda meter: meter.ended("failed", 2.5), {"glimpse_generations": [(1, "failed")]}),
    (lambda meter: meter.ended("cancelled", 2.5), {"glimpse_generations": [(1, "cancelled")]}),
    (lambda meter: meter.refused("overloaded"), {"glimpse_refusals": [(1, "overloaded")]}),
    (
        lambda meter: meter.moved("denoise", "stalled"),
        {"glimpse_moves": [(1, "denoise", "stalled")]},
    ),
    (lambda meter: meter.resumed(12), {"glimpse_resumed_steps": [(12,)]}),
    (lambda meter: meter.resumed(0), {}),
    (lambda meter: meter.stalled("denoise"), {"glimpse_stalls": [(1, "denoise")]}),
    (lambda meter: meter.preview("rough"), {"glimpse_previews": [(1, "rough")]}),
    (lambda meter: meter.first_preview(0.3), {"glimpse_first_preview_seconds": [(0.3,)]}),
    (lambda meter: meter.placed(0.4), {"glimpse_place_seconds": [(0.4,)]}),
    (lambda meter: meter.queued(0.2), {"glimpse_queue_seconds": [(0.2,)]}),
    (
        lambda meter: meter.tick(0.1, 8),
        {"glimpse_tick_seconds": [(0.1,)], "glimpse_tick_rows": [(8,)]},
    ),
    (lambda meter: meter.step(0.05), {"glimpse_step_seconds": [(0.05,)]}),
]


@pytest.mark.parametrize(("call", "expected"), CALLS)
def test_what_each_call_feeds(
    call: Callable[[Meter], None], expected: dict[str, list[Any]]
) -> None:
    backend = FakeMetrics()
    queueing = ServeMeter(backend)
    call(queueing)
    assert backend.seen == {}, "the caller waits for Ray"
    for _ in range(2):  # each value is recorded once
        queueing.record()
        assert backend.seen == expected


def test_every_series_is_fed() -> None:
    assert {name for _, fed in CALLS for name in fed} == {series.name for series in SERIES}


def test_counters_whose_labels_are_known_start_at_zero() -> None:
    backend = FakeMetrics()
    ServeMeter(backend).start_at_zero()
    assert backend.seen == {
        "glimpse_generations": [(0, "done"), (0, "failed"), (0, "cancelled")],
        "glimpse_moves": [(0, stage, why) for stage in STAGES for why in ("lost", "stalled")],
        "glimpse_resumed_steps": [(0,)],
        "glimpse_stalls": [(0, stage) for stage in STAGES],
        "glimpse_previews": [(0, "decoded"), (0, "rough"), (0, "dropped")],
    }


def test_stages_have_the_names_that_errors_give_them() -> None:
    class Handle:
        app_name, deployment_name = "test", "Meter"

        def options(self, **_: Any) -> "Handle":
            return self

    handle: Any = Handle()
    stages = handles.stages(handle, handle, handle, handle, handles.Watch(5, Unmetered()))
    assert {getattr(stages, name)._stage for name in stages.__slots__} | {
        "image_encode"  # of either decoder, the other way round
    } == set(STAGES)


class Heard(logging.Handler):
    """What the meter logs, however the test before has left the loggers above it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[list[str]]:
    handler = Heard()
    meter.logger.addHandler(handler)
    yield handler.messages
    meter.logger.removeHandler(handler)


def test_what_goes_wrong_is_told_once_and_reaches_no_caller(heard: list[str]) -> None:
    backend = FakeMetrics()
    broken = ServeMeter(backend)
    backend.made["glimpse_tick_seconds"].broken = True
    for _ in range(3):
        broken.tick(0.1, 8)
        broken.record()
    assert heard == ["glimpse_tick_seconds is not counted; further failures are not logged"]
    assert backend.seen == {"glimpse_tick_rows": [(8,)] * 3}


def test_names_follow_the_conventions_of_prometheus() -> None:
    for series in SERIES:
        assert re.fullmatch("glimpse_[a-z_]+", series.name)
        assert not series.name.endswith("_total")  # Ray's exporter adds it to a counter
        assert series.boundaries == tuple(sorted(set(series.boundaries)))
        if series.boundaries:
            assert series.name.endswith(("_seconds", "_rows"))
        assert series.description.endswith(".")


def test_serves_own_metrics_take_every_call_from_any_thread(heard: list[str]) -> None:
    """As far as it can be seen without Ray. tests/integration/test_metrics.py reads the values."""
    shared = ServeMeter()
    shared.start_at_zero()
    for series, metric in shared._made.items():
        assert metric.info["name"] == series.name
        assert metric.info["tag_keys"] == tuple(series.labels)
        assert metric.info.get("boundaries", []) == list(series.boundaries)

    def make_all_calls() -> None:
        for call, _ in CALLS:
            call(shared)

    threads = [threading.Thread(target=make_all_calls) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.record()
    assert heard == []


# docs/operating.md


def exported(series: Series) -> tuple[str, str, str]:
    """Name, type and labels as a row of the table has them."""
    labels = ", ".join(f"`{label}`" for label in series.labels)
    if series.boundaries:
        return f"`ray_{series.name}`", "histogram", labels
    return f"`ray_{series.name}_total`", "counter", labels


def test_the_table_lists_exactly_the_series_that_exist() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    table = [tuple(row[:3]) for row in rows if row and row[0].startswith("`ray_glimpse_")]
    assert table == [exported(series) for series in SERIES]


def test_what_else_is_named_there_exists() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    names = [exported(series)[0].strip("`") for series in SERIES]
    for name in re.findall(r"ray_glimpse_\w+", text):
        assert re.sub("_(bucket|count|sum)$", "", name) in names, name
    for series in SERIES:
        for label, values in series.labels.items():
            assert all(f"`{value}`" in text for value in values), (series.name, label)


def test_the_series_are_all_there_are() -> None:
    assert {one for one in vars(meter).values() if isinstance(one, Series)} == set(SERIES)
