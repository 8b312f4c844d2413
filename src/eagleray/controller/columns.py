"""Points of a deployment as columns of JSON numbers, as coarse as they are wanted.

Rates of several points are their mean, gauges their largest value; of latencies p50 is the mean by requests, p95 and
p99 the largest, so that what was bad for a second can still be seen in an hour. An hour by seconds is 30,000 numbers,
made on the controller's loop: they are rounded by `int`, which takes a third of the time of `round`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eagleray.controller.points import COUNTS, GAUGES, LATENCIES, Points
from eagleray.controller.ring import NOTHING, values

_RATES = ("requests_per_s", "errors_per_s")
_P50 = len(COUNTS)
_FIRST_GAUGE = len(COUNTS) + len(LATENCIES)

Column = list[float | None]


@dataclass(frozen=True)
class Span:
    """Slots from `begin` to before `until`, of `step_s` each, made of points of `base_s`: 1 or 10."""

    begin: int
    until: int
    step_s: int
    base_s: int


def series(key: tuple[str, str], points: Points, span: Span) -> dict[str, Any]:
    """One of the `series` of an answer; `points` have caught up."""
    app, deployment = key
    names = (*_RATES, *LATENCIES, *(GAUGES if points.gauges else ()))
    ring = points.hour if span.base_s == 1 else points.day
    rows = ring.read(span.begin // span.base_s, span.until // span.base_s)
    known = [row for row in rows if row is not None]  # one stretch: what is not there is too old or too new
    first = next((at for at, row in enumerate(rows) if row is not None), 0)
    size = span.step_s // span.base_s
    stretches = [
        (max(at - first, 0), max(min(at + size - first, len(known)), 0)) for at in range(0, len(rows), size)
    ]
    codes = list(zip(*known, strict=True)) or [()] * len(names)
    return {
        "application": app,
        "deployment": deployment or None,
        **dict(zip(names, _columns(codes, stretches, span.base_s), strict=True)),
    }


def _columns(codes: list[tuple[int, ...]], stretches: list[tuple[int, int]], base_s: int) -> Iterator[Column]:
    """Of each column of codes the numbers of all stretches, None for those that are empty."""
    number = values()
    counts = [[int(number[code] + 0.5) for code in column] for column in codes[:_P50]]
    for column in counts:
        yield [
            int(sum(column[a:b]) / (base_s * (b - a)) * 1000 + 0.5) / 1000 if b > a else None
            for a, b in stretches
        ]
    yield from _latencies(codes[_P50:_FIRST_GAUGE], counts[0], stretches)
    for gauge in codes[_FIRST_GAUGE:]:
        yield [int(number[max(gauge[a:b])] + 0.5) if b > a else None for a, b in stretches]


def _latencies(
    codes: list[tuple[int, ...]], requests: list[int], stretches: list[tuple[int, int]]
) -> Iterator[Column]:
    """None in a time without requests."""
    number = values()
    weights = [count if code != NOTHING else 0 for code, count in zip(codes[0], requests, strict=True)]
    weighed = [weight and weight * number[code] for code, weight in zip(codes[0], weights, strict=True)]
    totals = [sum(weights[a:b]) for a, b in stretches]
    p50: list[float] = [
        sum(weighed[a:b]) / total if total else 0.0 for (a, b), total in zip(stretches, totals, strict=True)
    ]
    yield [int(one * 1000 + 0.5) / 1000 if total else None for one, total in zip(p50, totals, strict=True)]
    for column in codes[1:]:
        highest = [code if code != NOTHING else 0 for code in column]
        yield [
            int(max(number[max(highest[a:b])], middle) * 1000 + 0.5) / 1000 if total else None
            for (a, b), middle, total in zip(stretches, p50, totals, strict=True)
        ]
