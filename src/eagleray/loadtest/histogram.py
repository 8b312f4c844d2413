"""Counts of latencies in buckets that grow with them, so that any number of them takes bounded memory.

Each octave of seconds is cut into 128 equal steps (the idea of HdrHistogram), so a percentile is at most 0.4 % away
from the latency that it stands for. The smallest and greatest are kept exactly. No I/O, no clock.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from math import frexp

SHORTEST_S, LONGEST_S = 2.0**-20, 2.0**13
"""Shorter ones (about a microsecond) and longer ones (two hours and more) are counted as if they were these."""

_STEPS = 128
"""Buckets of an octave; `record` has its logarithm as a shift."""


class Histogram:
    """Latencies in seconds; 4,225 buckets at most."""

    __slots__ = ("buckets", "count", "highest", "lowest", "total")

    def __init__(self, latencies: Iterable[float] = ()) -> None:
        self.buckets: defaultdict[int, int] = defaultdict(int)
        self.count = 0
        self.total = 0.0
        """Sum of all, in seconds."""
        self.lowest = math.inf
        self.highest = -math.inf
        for latency in latencies:
            self.record(latency)

    def record(self, latency_s: float) -> None:
        """Counts one."""
        self.count += 1
        self.total += latency_s
        if latency_s < self.lowest:
            self.lowest = latency_s
        if latency_s > self.highest:
            self.highest = latency_s
        if latency_s < SHORTEST_S:
            latency_s = SHORTEST_S
        elif latency_s > LONGEST_S:
            latency_s = LONGEST_S
        mantissa, exponent = frexp(latency_s)
        self.buckets[(exponent << 7) + int(mantissa * 256.0)] += 1

    def add(self, other: Histogram) -> None:
        """Counts all of the other's too."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] += count
        self.count += other.count
        self.total += other.total
        self.lowest = min(self.lowest, other.lowest)
        self.highest = max(self.highest, other.highest)

    @property
    def mean(self) -> float:
        """Seconds; nan when there are none."""
        return self.total / self.count if self.count else math.nan

    def percentile(self, percent: float, missing: int = 0) -> float:
        """The smallest latency that `percent` of all do not exceed, in seconds; nan when there are none at all.

        `missing` are requests that have got no good answer, which counts as infinitely late.
        """
        if not self.count + missing:
            return math.nan
        rank = max(1, math.ceil((self.count + missing) * percent / 100.0))
        if rank > self.count:
            return math.inf
        if rank == self.count:
            return self.highest
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                low, high = _bounds(bucket)
                return min(max((low + high) / 2, self.lowest), self.highest)
        raise AssertionError("buckets have lost counts")

    def count_above(self, latency_s: float) -> int:
        """How many were longer; those in the bucket of `latency_s` itself count as not."""
        if latency_s >= LONGEST_S:
            return 0
        edge = _bucket(latency_s)
        return sum(count for bucket, count in self.buckets.items() if bucket > edge)

    def bars(self, at_most: int) -> Iterator[tuple[float, float, int]]:
        """(from, to, count) of neighbouring ranges of equal ratio that hold all; at most so many."""
        if not self.count:
            return
        ordered = sorted(self.buckets)
        wide = max(1, math.ceil((ordered[-1] + 1 - ordered[0]) / at_most))
        sums: defaultdict[int, int] = defaultdict(int)
        for bucket in ordered:
            sums[(bucket - ordered[0]) // wide] += self.buckets[bucket]
        for number in range(max(sums) + 1):
            first = ordered[0] + number * wide
            yield _bounds(first)[0], _bounds(first + wide)[0], sums.get(number, 0)


def _bucket(latency_s: float) -> int:
    """As `record` has it, in line."""
    mantissa, exponent = frexp(max(latency_s, SHORTEST_S))
    return (exponent << 7) + int(mantissa * 256.0)


def _bounds(bucket: int) -> tuple[float, float]:
    """Seconds from which on, and below which, latencies are in the bucket."""
    exponent, step = bucket // _STEPS - 1, bucket % _STEPS
    return math.ldexp(step + _STEPS, exponent - 8), math.ldexp(step + _STEPS + 1, exponent - 8)
