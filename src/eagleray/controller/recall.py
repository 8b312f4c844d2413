"""Answers about the past: which points a question means, how coarse they have to be, and their columns as JSON.

It reads, and must not change what it reads but to bring it up to now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from eagleray.admin.records import EventsQuery, HistoryQuery
from eagleray.base.errors import ConfigError, PreconditionError
from eagleray.controller import columns
from eagleray.controller.chronicle import Chronicle
from eagleray.controller.history import History, Key
from eagleray.controller.points import DAY_POINTS, HOUR_POINTS, TEN

MOST_READ = 200_000
"""Points that one answer may be made of."""

MOST_POINTS = 12_000
"""Points in one answer, all series together: half a megabyte."""

_DEFAULT_SPAN_S = 300
_USEFUL = 600
"""Points of a series, where nobody says how fine they should be: more than a terminal or a chart is wide."""

_STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)

_COARSE_S = 100
"""From this step on points of ten seconds will do."""

_CLOCK_SET_S = 5.0
"""Wall time that differs by more from what it should be has been set: points are moved with it."""


class Recall:
    """`admin.records.Records` of one controller. Without a history nothing is counted in this instance."""

    def __init__(
        self, history: History | None, chronicle: Chronicle, look: Callable[[], dict[str, Any]]
    ) -> None:
        """`look` gives the overview."""
        self._look = look
        self._known = history
        self._chronicle = chronicle

    @property
    def _history(self) -> History:
        if self._known is None:
            raise PreconditionError(
                "This instance keeps no history: EAGLERAY_METRICS=0 was in its environment when it was started."
            )
        return self._known

    def size(self, query: HistoryQuery) -> int:
        """Points that `history` will look at. ConfigError for too many."""
        span = self._span(query)
        return len(self._chosen(query)) * (span.until - span.begin) // span.base_s

    async def history(self, query: HistoryQuery) -> dict[str, Any]:
        """See docs/rest.md. Raises PreconditionError and ConfigError."""
        history = self._history
        span = self._span(query)
        shift = self._shift()
        series = []
        for key in self._chosen(query):
            points = history.series.get(key)
            if points is None:  # it has gone meanwhile
                continue
            points.catch_up(int(history.now()))
            series.append(columns.series(key, points, span))
            await asyncio.sleep(0)  # a day of many must hold nobody up
        return {
            "now": history.wall_time_s(),
            "from": span.begin + shift,
            "to": span.until + shift,
            "step_s": span.step_s,
            "series": series,
        }

    def events(self, query: EventsQuery) -> dict[str, Any]:
        """See docs/rest.md."""
        return self._chronicle.read(query.since, query.application, query.limit)

    def overview(self) -> dict[str, Any]:
        """See docs/rest.md."""
        return self._look()

    def _chosen(self, query: HistoryQuery) -> list[Key]:
        return sorted(
            key
            for key in self._history.series
            if query.application in (None, key[0]) and query.deployment in (None, key[1])
        )

    def _shift(self) -> int:
        """What to add to slots since the clock was set."""
        off_s = self._history.wall_time_s() - self._history.now()
        return round(off_s / TEN) * TEN if abs(off_s) > _CLOCK_SET_S else 0

    def _span(self, query: HistoryQuery) -> columns.Span:
        """The points that are meant. Only seconds that are over count."""
        newest = int(self._history.now()) - 1
        shift = self._shift()

        def slot(at: float | None, otherwise: int) -> int:
            if at is None:
                return otherwise
            return newest + int(at) if at <= 0 else int(at) - shift

        until = min(slot(query.to_s, newest), newest)
        begin = min(slot(query.from_s, until - _DEFAULT_SPAN_S), until)
        begin = max(begin, newest - DAY_POINTS * TEN)
        base_s = 1 if begin >= newest - HOUR_POINTS and (query.step_s or 1) < _COARSE_S else TEN
        number = max(len(self._chosen(query)), 1)
        least_s = next(
            one for one in _STEPS_S if one >= base_s and (until - begin) // one * number <= MOST_POINTS
        )
        wanted_s = query.step_s or next(
            one for one in _STEPS_S if one >= least_s and (until - begin) // one <= _USEFUL
        )
        step_s = -(-wanted_s // base_s) * base_s
        if step_s < least_s or (until - begin) // base_s * number > MOST_READ:
            raise ConfigError(
                f"That would be {(until - begin) // step_s * number} points of {number} series: ask for one "
                f"?application=, a later ?from=, or ?step={least_s} or more."
            )
        return columns.Span(begin // step_s * step_s, until // step_s * step_s, step_s, base_s)
