"""The load of one deployment over time, as its routers tell it: step functions, summed and aggregated.

Before its first sample a router had no load, and its last sample holds until the next. The window opens with the
earliest sample, at most the look-back period ago. What a router that has gone had told is forgotten with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

_STALE_INTERVALS, _STALE_S = 2.0, 10.0
"""A router that tells of load must go on doing so; one that is silent for longer is taken to have none."""


class Sample(NamedTuple):
    """Of one router: calls that wait, calls at replicas, and how many have been answered since it began."""

    at: float
    queued: int
    running: int
    answered: int


_NOTHING = Sample(0.0, 0, 0, 0)


def _total(sample: Sample) -> int:
    return sample.queued + sample.running


class LoadWindow:
    """Times are the controller's monotonic seconds and must not run backwards."""

    def __init__(self, look_back_s: float, interval_s: float) -> None:
        self.adapt(look_back_s, interval_s)
        self._series: dict[str, list[Sample]] = {}
        self._seen: dict[str, float] = {}

    def adapt(self, look_back_s: float, interval_s: float) -> None:
        """Another window, and another interval of the routers."""
        self.look_back_s = look_back_s
        self.interval_s = interval_s
        self.stale_s = max(_STALE_INTERVALS * interval_s, _STALE_S)

    def add(self, source: str, sample: Sample) -> None:
        """One more sample of a router."""
        series = self._series.setdefault(source, [])
        series.append(sample)
        self._seen[source] = sample.at

    def drop(self, source: str) -> bool:
        """The router has gone; says whether it was known."""
        self._seen.pop(source, None)
        return self._series.pop(source, None) is not None

    def prune(self, now: float) -> None:
        """Forgets what lies before the window, and the load of those who have fallen silent."""
        opens = now - self.look_back_s
        for source, series in list(self._series.items()):
            if _total(series[-1]) and now - self._seen[source] > self.stale_s:
                series.append(Sample(now, 0, 0, series[-1].answered))
            keep = next((i for i in range(len(series) - 1, -1, -1) if series[i].at <= opens), 0)
            if keep:
                del series[:keep]

    def opens(self, now: float) -> float:
        """When the window begins."""
        first = min((series[0].at for series in self._series.values()), default=now)
        return max(first, now - self.look_back_s)

    @property
    def is_known(self) -> bool:
        """Whether anyone has told anything."""
        return bool(self._series)

    def latest(self, value: Callable[[Sample], int] = _total) -> int:
        """The sum of the last samples."""
        return sum(value(series[-1]) for series in self._series.values())

    def is_flat(self, now: float) -> bool:
        """Whether the load was the same all through the window: only news can change what follows from it."""
        opens = self.opens(now)
        return all(
            all(_total(sample) == _total(series[-1]) for sample in series)
            and (series[0].at <= opens or not _total(series[0]))
            for series in self._series.values()
        )

    def aggregate(self, now: float, how: str, value: Callable[[Sample], int] = _total) -> float:
        """The time-weighted mean, the maximum or the minimum of the summed step functions over the window."""
        opens = self.opens(now)
        level, steps = 0, []
        for series in self._series.values():
            before = 0
            for sample in series:
                told = value(sample)
                if sample.at <= opens:
                    level += told - before
                else:
                    steps.append((sample.at, told - before))
                before = told
        steps.sort()
        area, low, high, at = 0.0, level, level, opens
        for moment, change in steps:
            if moment > at:
                area += level * (moment - at)
                low, high, at = min(low, level), max(high, level), moment
            level += change
        if now > at:
            area += level * (now - at)
        if how == "max":
            return float(max(high, level))
        if how == "min":
            return float(min(low, level))
        return area / (now - opens) if now > opens else float(level)

    def rate(self, now: float) -> float:
        """Answers a second over the window.

        A router without calls is silent, so what follows a sample was answered within an interval before the next one,
        however long ago the sample was.
        """
        earliest = now - self.look_back_s - self.interval_s
        return sum(
            (series[-1].answered - series[0].answered) / (now - max(series[0].at, earliest))
            for series in self._series.values()
            if now > series[0].at
        )

    def growth(self, now: float) -> float:
        """Calls that began without ending, a second, over the window."""
        opens = self.opens(now)
        passed = now - opens
        before = sum(
            _total(next((sample for sample in reversed(series) if sample.at <= opens), _NOTHING))
            for series in self._series.values()
        )
        return (self.latest() - before) / passed if passed > 0 else 0.0

    def samples(self, value: Callable[[Sample], int] = _total) -> dict[str, list[tuple[float, int]]]:
        """(time, value) by router."""
        return {
            source: [(sample.at, value(sample)) for sample in series]
            for source, series in self._series.items()
        }
