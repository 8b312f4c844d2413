"""One hour of 1-s points and one day of 10-s points of one deployment, or of one application.

A point is written when its second is over and no news of it can come any more. A second in which nothing happened is
not written at all: the next one that is, or somebody who reads, fills what lies between with the gauges as they were.
Pure: seconds are slots, whole numbers on one axis.
"""

from __future__ import annotations

from collections.abc import Sequence

from eagleray.controller.ring import NOTHING, Ring, code_of

HOUR_POINTS = 3600
"""Points of a second that are kept."""
DAY_POINTS = 8640
"""Points of ten seconds that are kept."""
TEN = 10

COUNTS = ("requests", "errors")
LATENCIES = ("p50_ms", "p95_ms", "p99_ms")
GAUGES = ("ongoing", "queued", "replicas")
"""What a row has, in this order; an application has no gauges."""

ONGOING, QUEUED, REPLICAS = range(3)

_QUANTILES = (0.5, 0.95, 0.99)


class _Span:
    """What happened in a second, or in ten. `peaks` are the largest values of the gauges, `last` those at its end."""

    __slots__ = ("bounds", "counts", "errors", "last", "peaks", "requests", "slot")

    def __init__(self, slot: int, gauges: list[float]) -> None:
        self.slot = slot
        self.requests = self.errors = 0.0
        self.bounds: tuple[float, ...] = ()
        self.counts: list[float] = []
        self.peaks = list(gauges)
        self.last = list(gauges)

    def observe(self, bounds: tuple[float, ...], counts: Sequence[float]) -> None:
        if not self.counts:
            self.bounds, self.counts = bounds, list(counts)
        elif self.bounds == bounds:
            self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]

    def move(self, gauges: list[float]) -> None:
        self.last = list(gauges)
        self.peaks = [max(a, b) for a, b in zip(self.peaks, gauges, strict=True)]

    def add(self, other: _Span) -> None:
        self.requests += other.requests
        self.errors += other.errors
        if other.counts:
            self.observe(other.bounds, other.counts)
        self.move(other.peaks)

    def codes(self) -> list[int]:
        latencies = [NOTHING] * len(_QUANTILES)
        if self.requests and sum(self.counts):
            latencies = [code_of(quantile(self.bounds, self.counts, one)) for one in _QUANTILES]
        counts = [code_of(self.requests), code_of(self.errors)]
        return [*counts, *latencies, *(code_of(peak) for peak in self.peaks)]


class Points:
    """`slot` is the present second. News may concern it or the one before; what is older counts for the oldest open."""

    def __init__(self, slot: int, *, has_gauges: bool) -> None:
        self.gauges = [0.0] * (len(GAUGES) if has_gauges else 0)
        """As they are now."""
        width = len(COUNTS) + len(LATENCIES) + len(self.gauges)
        self.hour = Ring(width, HOUR_POINTS, slot)
        self.day = Ring(width, DAY_POINTS, slot // TEN)
        self._seconds: dict[int, _Span] = {}
        self._ten: _Span | None = None
        self._level = list(self.gauges)
        """The gauges after the last second that was written."""

    @property
    def is_settled(self) -> bool:
        """Nothing waits for its second to be over."""
        return not self._seconds

    def count(self, slot: int, requests: float = 0.0, errors: float = 0.0) -> None:
        span = self._span(slot)
        span.requests += requests
        span.errors += errors

    def observe(self, slot: int, bounds: tuple[float, ...], counts: Sequence[float]) -> None:
        """Latencies in milliseconds, by bucket; the last one has no bound."""
        self._span(slot).observe(bounds, counts)

    def set_gauge(self, slot: int, gauge: int, value: float) -> None:
        """`gauge` is ONGOING, QUEUED or REPLICAS."""
        span = self._span(slot)  # before: the second began with what was
        self.gauges[gauge] = max(value, 0.0)
        span.move(self.gauges)

    def _span(self, slot: int) -> _Span:
        slot = max(slot, self.hour.next)
        span = self._seconds.get(slot)
        if span is None:
            span = self._seconds[slot] = _Span(slot, self.gauges)
        return span

    def advance(self, slot: int) -> None:
        """`slot` is the present second: what lies more than one back is written."""
        for done in sorted(one for one in self._seconds if one < slot - 1):
            self._write(self._seconds.pop(done))

    def catch_up(self, slot: int) -> None:
        """As `advance`, with the seconds in which nothing happened: to be read now."""
        self.advance(slot)
        idle = self._idle()
        self.hour.fill(slot - 1, idle)
        if self._ten is not None and self._ten.slot < (slot - 1) // TEN:
            self._write_ten()
        self.day.fill((slot - 1) // TEN, idle)

    def _write(self, span: _Span) -> None:
        self.hour.fill(span.slot, self._idle())
        self.hour.write(self.hour.row(span.codes()))
        slot = span.slot // TEN
        if self._ten is not None and self._ten.slot != slot:
            self._write_ten()
        if self._ten is None:
            self.day.fill(slot, self._idle())
            self._ten = _Span(slot, self._level)
        self._ten.add(span)
        self._level = span.last

    def _write_ten(self) -> None:
        assert self._ten is not None
        self.day.write(self.day.row(self._ten.codes()))
        self._ten = None

    def _idle(self) -> bytes:
        """The row of a time in which nothing happened."""
        levels = [code_of(level) for level in self._level]
        return self.hour.row([0] * len(COUNTS) + [NOTHING] * len(LATENCIES) + levels)


def quantile(bounds: tuple[float, ...], counts: Sequence[float], share: float) -> float:
    """The value below which `share` of the observations lie, taking those of a bucket to be spread evenly over it.

    Those beyond the last bound are taken to be at it.
    """
    wanted = share * sum(counts)
    below = 0.0
    for index, bound in enumerate(bounds):
        if below + counts[index] >= wanted and counts[index]:
            low = bounds[index - 1] if index else 0.0
            return low + (bound - low) * (wanted - below) / counts[index]
        below += counts[index]
    return bounds[-1] if bounds else 0.0
