"""Counters, gauges and histograms of one process: plain numbers that cost an addition each, and snapshots of them.

The parts of a process count here and know nothing of who reads. The process ships what has changed; totals are
cumulative from its start, so that a snapshot which is lost or comes twice does no harm. Label sets are resolved once,
outside of hot paths, and are bounded: one more than `most` is counted on the series whose labels are all `OVERFLOW`.

Counting belongs to one thread, and collecting may belong to another: what an observation has changed in between is
told next time. Who counts in several threads uses a lock of their own.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

OVERFLOW = "__other__"
"""The value of every label of the series that stands for all label sets beyond the bound."""

FOLDED = "eagleray_metrics_folded"
"""Counter of label sets that were asked for when a metric had enough of them."""

MOST_SERIES = 1000
"""Label sets of one metric in one process."""

MOST_CHARACTERS = 1000
"""Of one label value; a set with a longer one is counted on the series of those beyond the bound."""

LATENCY_MS = (
    1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10000, 60000, 120000, 300000, 600000,
)  # fmt: skip
"""Ray Serve's buckets of latencies, in milliseconds."""
STARTUP_MS = (5, 20, 50, 100, 250, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 240000)
"""Ray Serve's buckets of starts and stops, in milliseconds."""


class Sample(msgspec.Struct, array_like=True, gc=False):
    """One series as it is now. `counts` are of a histogram's buckets, the last one unbounded; `value` is its sum.

    `exemplar` is the newest noticed observation: (trace id, value, wall time).
    """

    labels: tuple[str, ...]
    value: float
    counts: list[int] | None = None
    exemplar: tuple[str, float, float] | None = None


class Snapshot(msgspec.Struct, array_like=True):
    """What is known of one metric; of a process's series only those that have changed since the last one."""

    name: str
    kind: str
    help: str
    label_names: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    samples: list[Sample] = []
    gone: list[tuple[str, ...]] = []
    """Series that were forgotten since; one that is among the samples too has come back."""


class Value:
    """A counter's or gauge's series. Hot paths add to `value` themselves."""

    __slots__ = ("shipped", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.shipped: float | None = None

    def inc(self, by: float = 1.0) -> None:
        self.value += by

    def set(self, value: float) -> None:
        self.value = value

    def _changed(self) -> bool:
        return self.value != self.shipped

    def _sample(self, labels: tuple[str, ...]) -> Sample:
        self.shipped = value = float(
            self.value
        )  # what was added may be of a class of its own, as numpy's numbers
        return Sample(labels, value)


class Distribution:
    """A histogram's series."""

    __slots__ = ("bounds", "count", "counts", "exemplar", "shipped", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.sum = 0.0
        self.exemplar: tuple[str, float, float] | None = None
        self.shipped = -1

    def observe(self, value: float) -> None:
        self.sum += value
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1  # last: who collects meanwhile in another thread collects again

    def _changed(self) -> bool:
        return self.count != self.shipped

    def _sample(self, labels: tuple[str, ...]) -> Sample:
        self.shipped = self.count
        return Sample(labels, float(self.sum), list(self.counts), self.exemplar)


class Waits(Distribution):
    """A histogram of what mostly is nothing: `none` counts observations of 0 at the price of an addition."""

    __slots__ = ("none",)

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self.none = 0

    def _changed(self) -> bool:
        return self.count + self.none != self.shipped

    def _sample(self, labels: tuple[str, ...]) -> Sample:
        none = self.none
        self.shipped = self.count + none
        return Sample(labels, self.sum, [self.counts[0] + none, *self.counts[1:]], self.exemplar)


class Gathered(Distribution):
    """A histogram's series on a hot path, which only does `values.append`, and `settle` when there are `ENOUGH`.

    Counting many at once costs a third of counting each between requests. Any thread may settle, while one appends.
    """

    __slots__ = ("_lock", "values")
    ENOUGH = 256

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self.values: list[float] = []
        self._lock = threading.Lock()

    def settle(self) -> None:
        """Counts what has gathered."""
        with self._lock:
            size = len(self.values)
            if size:
                found = self.values[:size]
                del self.values[:size]  # what comes meanwhile stands behind
                found.sort()
                self._count(found)

    def _count(self, found: list[float]) -> None:
        """`found` is in order."""
        before = 0
        for place, bound in enumerate(self.bounds):
            until = bisect_right(found, bound, before)
            self.counts[place] += until - before
            before = until
            if until == len(found):
                break
        self.counts[-1] += len(found) - before
        self.sum += sum(found)
        self.count += len(found)

    def total(self) -> float:
        """How many there were."""
        self.settle()
        return float(self.count)

    def _changed(self) -> bool:
        self.settle()
        return super()._changed()

    def _sample(self, labels: tuple[str, ...]) -> Sample:
        self.settle()
        return super()._sample(labels)


D = TypeVar("D", bound=Distribution)


def _plain(text: object) -> str:
    """`text` as it can be told: of the class str itself, which numpy's texts are not, and encodable."""
    plain = str.__str__(text) if isinstance(text, str) else "" if text is None else str(text)
    return plain if plain.isascii() else plain.encode("utf-8", "replace").decode()


class Metric:
    """One metric of this process, with a series for each label set that has been asked for."""

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        label_names: Sequence[str] = (),
        bounds: Sequence[float] = (),
        most: int = MOST_SERIES,
    ) -> None:
        self.name = _plain(name)
        self.kind = kind
        self.help = _plain(help)
        self.label_names = tuple(map(_plain, label_names))
        self.bounds = tuple(bounds)
        self.folded = 0
        """How often a label set was asked for that was one too many."""
        self._most = most
        self._series: dict[tuple[str, ...], Value | Distribution] = {}
        self._gone: list[tuple[str, ...]] = []
        self._functions: dict[tuple[str, ...], Callable[[], float]] = {}
        self._beyond: dict[tuple[str, ...], Callable[[], float]] = {}
        """Those that are one too many: their sum is read."""
        self._beyond_before = 0.0
        """What counters had that were one too many and are forgotten."""

    def value(self, *labels: str) -> Value:
        """The series of a counter or gauge with these label values, in the order of `label_names`."""
        found = self._find(labels)
        assert isinstance(found, Value)
        return found

    def distribution(self, *labels: str) -> Distribution:
        """The series of a histogram with these label values."""
        return self.distribution_as(Distribution, *labels)

    def distribution_as(self, kind: type[D], *labels: str) -> D:
        """The same, as an object of a class that knows more; all of this metric are to be of that class."""
        found = self._find(labels, kind)
        assert isinstance(found, kind)
        return found

    def read(self, function: Callable[[], float], *labels: str) -> None:
        """The gauge with these label values is asked of `function` whenever somebody collects: counting costs nothing.

        It replaces a function of the same labels; of those beyond the bound the sum is told. It is called in the
        collecting thread, so it only reads.
        """
        self._beyond.pop(labels, None)
        if self._find(labels) is not self._series.get(labels):  # one too many
            self._beyond[labels] = function
            labels, function = (OVERFLOW,) * len(labels), self._sum_beyond
        self._functions[labels] = function

    def _sum_beyond(self) -> float:
        return self._beyond_before + sum(function() for function in self._beyond.copy().values())

    def __contains__(self, labels: tuple[str, ...]) -> bool:
        """Whether there is a series of these label values, which are not among those beyond the bound."""
        return tuple(map(_plain, labels)) in self._series

    def forget(self, *labels: str) -> None:
        """The series is not collected any more, and who was told of it is told that it has gone.

        What a counter beyond the bound has counted stays part of the sum of those.
        """
        beyond = self._beyond.pop(labels, None)
        if beyond is not None and self.kind == COUNTER:
            self._beyond_before += beyond()
        self._functions.pop(labels, None)
        labels = tuple(map(_plain, labels))
        if self._series.pop(labels, None) is not None:
            self._gone.append(labels)

    def _find(self, labels: tuple[str, ...], kind: type[Distribution] = Distribution) -> Value | Distribution:
        found = self._series.get(labels)
        if found is None:
            if len(labels) != len(self.label_names):
                raise ValueError(f"{self.name} has the labels {self.label_names}, got the values {labels}.")
            labels = tuple(map(_plain, labels))
            is_too_long = any(len(label) > MOST_CHARACTERS for label in labels)
            if labels in self._series:
                return self._series[labels]
            if is_too_long or (len(self._series) >= self._most and labels != (OVERFLOW,) * len(labels)):
                self.folded += 1
                return self._find((OVERFLOW,) * len(labels), kind)
            found = kind(self.bounds) if self.kind == HISTOGRAM else Value()
            self._series[labels] = found
        return found

    def collect(self, *, everything: bool) -> Snapshot | None:
        """What has changed since the last call; with `everything`, what has not as well. None: nothing."""
        gone, self._gone = ([] if everything else self._gone), []
        for labels, function in self._functions.copy().items():
            series = self._series.get(labels)
            if isinstance(series, Value):  # another thread may forget it just now
                series.set(function())
        samples = [
            series._sample(labels)
            for labels, series in self._series.copy().items()
            if everything or series._changed()
        ]
        if not samples and not gone:
            return None
        return Snapshot(self.name, self.kind, self.help, self.label_names, self.bounds, samples, gone)


class Registry:
    """All metrics of one process, or of one replica where several share a process.

    Not `enabled` (EAGLERAY_METRICS=0) nobody collects: who has a hot path looks once, and counts nothing there.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._metrics: dict[str, Metric] = {}

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._metrics.values())

    @property
    def size(self) -> int:
        """How many metrics have been made."""
        return len(self._metrics)

    def get(self, name: str) -> Metric | None:
        """The metric of this name, if it has been made."""
        return self._metrics.get(name)

    def counter(self, name: str, help: str, *labels: str, most: int = MOST_SERIES) -> Metric:
        return self._metric(name, COUNTER, help, labels, (), most)

    def gauge(self, name: str, help: str, *labels: str, most: int = MOST_SERIES) -> Metric:
        return self._metric(name, GAUGE, help, labels, (), most)

    def histogram(
        self,
        name: str,
        help: str,
        *labels: str,
        bounds: Sequence[float] = LATENCY_MS,
        most: int = MOST_SERIES,
    ) -> Metric:
        return self._metric(name, HISTOGRAM, help, labels, bounds, most)

    def _metric(
        self,
        name: str,
        kind: str,
        help: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        most: int,
    ) -> Metric:
        found = self._metrics.get(name)
        if found is None:
            found = self._metrics[name] = Metric(name, kind, help, labels, bounds, most)
        elif (found.kind, found.label_names) != (kind, tuple(labels)):
            raise ValueError(
                f"Metric {name} exists as a {found.kind} with the labels {found.label_names}; it cannot be a {kind} "
                f"with {tuple(labels)} as well. Give one of them another name."
            )
        return found

    def collect(self, *, everything: bool = False) -> list[Snapshot]:
        """See `Metric.collect`. What did not fit into a metric is told as one more."""
        for metric in list(self._metrics.values()):
            if metric.folded:
                counter = self.counter(
                    FOLDED, "Label sets beyond a metric's bound, counted together.", "metric"
                )
                counter.value(metric.name).value = metric.folded
        found = (metric.collect(everything=everything) for metric in list(self._metrics.values()))
        return [snapshot for snapshot in found if snapshot is not None]
