"""Points of a deployment as columns of JSON numbers, as coarse as they are wanted.

Rates of several points are their mean, gauges their largest value; of latencies p50 is the mean by requests, p95 and
p99 the largest, so that what was bad for a second can still be seen in an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eagleray.controller.points import COUNTS, GAUGES, LATENCIES, Points
from eagleray.controller.ring import NOTHING, values

_RATES = ("requests_per_s", "errors_per_s")
_P50 = len(COUNTS)
_FIRST_GAUGE = len(COUNTS) + len(LATENCIES)

Row = tuple[int, ...]


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
    gauges = GAUGES if points.gauges else ()
    names = (*_RATES, *LATENCIES, *gauges)
    ring = points.hour if span.base_s == 1 else points.day
    rows = ring.read(span.begin // span.base_s, span.until // span.base_s)
    size = span.step_s // span.base_s
    found = [_point(rows[at : at + size], span.step_s, len(names)) for at in range(0, len(rows), size)]
    columns = zip(*found, strict=True) if found else ((),) * len(names)
    return {
        "application": app,
        "deployment": deployment or None,
        **{name: list(column) for name, column in zip(names, columns, strict=True)},
    }


def _point(rows: list[Row | None], step_s: int, width: int) -> list[float | None]:
    known = [row for row in rows if row is not None]
    if not known:
        return [None] * width
    number = values()
    base_s = step_s / len(rows)
    requests = [round(number[row[0]]) for row in known]
    errors = sum(round(number[row[1]]) for row in known)
    seconds = base_s * len(known)
    point: list[float | None] = [round(sum(requests) / seconds, 3), round(errors / seconds, 3)]
    point += _latencies(known, requests)
    for column in range(_FIRST_GAUGE, width):
        point.append(round(number[max(row[column] for row in known)]))
    return point


def _latencies(rows: list[Row], requests: list[int]) -> list[float | None]:
    """None in a time without requests."""
    number = values()
    answered = [(row, count) for row, count in zip(rows, requests, strict=True) if row[_P50] != NOTHING]
    if not answered:
        return [None] * len(LATENCIES)
    total = sum(count for _, count in answered)
    p50 = sum(number[row[_P50]] * count for row, count in answered) / total if total else 0.0
    highest = [number[max(row[column] for row, _ in answered)] for column in (_P50 + 1, _P50 + 2)]
    return [round(p50, 3), *(round(max(one, p50), 3) for one in highest)]
