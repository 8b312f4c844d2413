"""What has become of the requests of one load: counts, latencies, and a point for each stretch of time.

Counting is all that happens per request. Memory is bounded: when there are too many points, two neighbours become one.
No I/O; times are given.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from eagleray.loadtest.histogram import Histogram

MOST_POINTS = 1200
"""Twenty minutes of seconds, then of two seconds, and so on."""


@dataclass(frozen=True)
class Point:
    """One stretch of time; what ended in it. Latencies are of good answers, nan when there were none."""

    t_s: float
    """Its end, since the measurement began."""
    seconds: float
    answered: int
    failed: int
    """Answers from 400 on, and errors."""
    p50_s: float
    p99_s: float

    def joined(self, later: Point) -> Point:
        """Both as one; percentiles are the worse ones, so no spike is lost."""
        return Point(
            later.t_s,
            self.seconds + later.seconds,
            self.answered + later.answered,
            self.failed + later.failed,
            _worse(self.p50_s, later.p50_s),
            _worse(self.p99_s, later.p99_s),
        )


def _worse(one: float, other: float) -> float:
    return other if math.isnan(one) or other > one else one


class Tally:
    """Counts of what is measured. Good is an answer with a status below 400."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.good = Histogram()
        """From the intended time to the last byte; up to the last tick."""
        self.bad = Histogram()
        """Of answers from 400 on."""
        self.lag = Histogram()
        """Of an open loop: how late requests left although they could."""
        self.waited = 0
        """Requests of an open loop that found all connections busy."""
        self.sent = 0
        self.unfinished = 0
        """Neither answered nor failed when the load was stopped."""
        self.bytes_in = 0
        self.points: list[Point] = []
        self.seconds = 0.0
        """From the beginning of the measurement to the last tick while requests were sent."""
        self.cpu_s = 0.0
        """Of this process in that time."""
        self.in_time = 0
        """Good answers while requests were sent: those that make the rate."""
        self._stretch = Histogram()
        self._failed = 0
        self._step = 1.0
        self._since = 0.0

    def answered(self, status: int, latency_s: float) -> None:
        """One answer is complete."""
        self.statuses[status] += 1
        if status < 400:
            self._stretch.record(latency_s)
        else:
            self.bad.record(latency_s)
            self._failed += 1

    def failed(self, kind: str, count: int = 1) -> None:
        """No answer has come, for the reason `kind`."""
        self.errors[kind] += count
        self._failed += count

    def tick(self, t_s: float, *, is_sending: bool) -> Point | None:
        """Closes a stretch of time, `t_s` after the beginning; the point that it makes. To be called at the end too."""
        stretch, failed = self._stretch, self._failed
        self._stretch, self._failed = Histogram(), 0
        self.good.add(stretch)
        length, self._since = t_s - self._since, t_s
        if is_sending:
            self.in_time += stretch.count
            self.seconds = t_s
        if length <= 0:
            return None
        point = Point(t_s, length, stretch.count, failed, stretch.percentile(50), stretch.percentile(99))
        if self.points and self.points[-1].seconds + length <= self._step * 1.25:
            self.points[-1] = self.points[-1].joined(point)
        else:
            self.points.append(point)
        if len(self.points) >= MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [one.joined(other) for one, other in pairs]
            self._step *= 2
        return point

    @property
    def failures(self) -> int:
        """Answers from 400 on, and errors."""
        return self.bad.count + self.errors.total()

    @property
    def rate(self) -> float:
        """Good answers a second while requests were sent."""
        return self.in_time / self.seconds if self.seconds else 0.0

    @property
    def client_cpu(self) -> float:
        """Share of a core that this process took while it sent."""
        return self.cpu_s / self.seconds if self.seconds else 0.0
