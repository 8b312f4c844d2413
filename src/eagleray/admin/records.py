"""GET /api/v1/history and /api/v1/events: what is asked for, checked, and at a pace that costs requests nothing.

Reading points takes time of the controller's loop in proportion to their number, so that is what a budget counts: who
asks for more than it allows waits for the answer, and when too many wait the next one is refused. It must not know how
points and events are kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

from eagleray.admin.gate import Refusal
from eagleray.base.errors import ConfigError

AT_ONCE = 200_000.0
"""Points that are read at once; half a second's work."""

PER_S = 20_000.0
"""Points that are allowed again each second: a seventh of a core when they are as fine as can be, else far less."""

LEAST = 1_000.0
"""What an answer counts at least."""

LONGEST_WAIT_S = 10.0
"""Who would have to wait longer gets 429."""

HELD_BACK_S = 1.0
"""How long a refusal is held back, since refusing a flood takes time as well."""

MOST_HELD = 100
"""Refusals that are; further ones come at once."""


@dataclass(frozen=True)
class HistoryQuery:
    """Points from `from_s` to before `to_s`: wall time, or as long ago if not positive; None: the newest.

    `step_s` None: as fine as is useful. Without `deployment` those of all, and of applications; without
    `application` of all applications.
    """

    application: str | None = None
    deployment: str | None = None
    from_s: float | None = None
    to_s: float | None = None
    step_s: int | None = None


@dataclass(frozen=True)
class EventsQuery:
    """Events after the one called `since`, the newest `limit` of them, of one application if that is given."""

    since: int = 0
    application: str | None = None
    limit: int | None = None


class Records(Protocol):
    """What the controller remembers; everything it gives is JSON."""

    def size(self, query: HistoryQuery) -> int:
        """How many points `history` will read. ConfigError for what is too much at once."""

    async def history(self, query: HistoryQuery) -> dict[str, Any]:
        """See docs/rest.md. PreconditionError when nothing is counted in this instance."""

    def events(self, query: EventsQuery) -> dict[str, Any]:
        """See docs/rest.md."""

    def overview(self) -> dict[str, Any]:
        """See docs/rest.md."""


class Reading:
    """Reads `records` for all clients of one server."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._left = AT_ONCE
        self._asked_at = 0.0
        self._held = 0

    async def history(self, query: str) -> dict[str, Any]:
        """Raises ConfigError for a query that cannot be understood; Refusal(429) when too much is asked for."""
        wanted = history_query(query)
        await self._pay(self._records.size(wanted))
        return await self._records.history(wanted)

    async def events(self, query: str) -> dict[str, Any]:
        """As `history`."""
        wanted = events_query(query)
        await self._pay(0)
        return self._records.events(wanted)

    async def overview(self, query: str) -> dict[str, Any]:
        """As `history`; there is nothing to ask for."""
        _given(query, ())
        await self._pay(0)
        return self._records.overview()

    async def _pay(self, points: int) -> None:
        now = asyncio.get_running_loop().time()
        self._left = min(AT_ONCE, self._left + PER_S * (now - self._asked_at))
        self._asked_at = now
        wait_s = (max(points, LEAST) - self._left) / PER_S
        if wait_s > LONGEST_WAIT_S:
            await self._hold_back()
            raise Refusal(
                429,
                "Too Many Requests: ask for fewer points at once, by ?application= or ?from=, or less often.",
            )
        self._left -= max(points, LEAST)
        if wait_s > 0.0:
            await asyncio.sleep(wait_s)

    async def _hold_back(self) -> None:
        """Who asks again at once waits for being refused, too; clients that went away leave no more than some."""
        if self._held < MOST_HELD:
            self._held += 1
            try:
                await asyncio.sleep(HELD_BACK_S)
            finally:
                self._held -= 1


def history_query(query: str) -> HistoryQuery:
    """Raises ConfigError."""
    given = _given(query, ("application", "deployment", "from", "to", "step"))
    step = _number(given, "step")
    if step is not None and not (1 <= step <= 86_400 and step == int(step)):
        raise ConfigError(f"?step= must be a whole number of seconds from 1 to 86400, got '{given['step']}'.")
    if "deployment" in given and "application" not in given:
        raise ConfigError("?deployment= needs ?application= beside it.")
    return HistoryQuery(
        given.get("application"),
        given.get("deployment"),
        _number(given, "from"),
        _number(given, "to"),
        None if step is None else int(step),
    )


def events_query(query: str) -> EventsQuery:
    """Raises ConfigError."""
    given = _given(query, ("since", "application", "limit"))
    for name in ("since", "limit"):
        if name in given and not (given[name].isascii() and given[name].isdigit() and len(given[name]) <= 18):
            raise ConfigError(f"?{name}= must be a whole number >= 0, got '{given[name]}'.")
    limit = int(given["limit"]) if "limit" in given else None
    return EventsQuery(int(given.get("since", 0)), given.get("application"), limit)


def _given(query: str, names: tuple[str, ...]) -> dict[str, str]:
    """The last value of each parameter; an empty one is not given."""
    found = {name: values[-1] for name, values in parse_qs(query).items()}
    for name in found:
        if name not in names:
            raise ConfigError(f"?{name}= is not known here; there are {', '.join(names)}.")
    return found


def _number(given: dict[str, str], name: str) -> float | None:
    if name not in given:
        return None
    try:
        number = float(given[name])
    except ValueError:
        number = float("nan")
    if not -1e9 < number < 1e11:
        raise ConfigError(
            f"?{name}= must be a number: seconds since 1970, or, if negative, before now; got '{given[name]}'."
        )
    return number
