"""The only counter of a replica: how many calls it runs, and who must hear when one ends.

A call takes a slot before anything else happens to it and gives it back once, with its answer. Callers that were
turned away are remembered and told when there is room, so that nobody ever polls. Belongs to the user's loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from eagleray.wire.messages import DRAINING, REJECTED, ErrorHead


class Caller(Protocol):
    """The connection of a caller."""

    def room(self) -> None: ...


class Slots:
    """At most `limit` calls at once. Closed until `open` is called, and again, for ever, after `drain`."""

    __slots__ = ("_idle", "_opened", "_turned_away", "draining", "limit", "ongoing")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ongoing = 0
        self.draining = False
        self._opened = False
        self._turned_away: dict[int, Caller] = {}
        self._idle: list[Callable[[], None]] = []

    def open(self) -> None:
        """The replica is ready: calls may come, and those that were too early are told."""
        self._opened = True
        self._announce()

    def resize(self, limit: int) -> None:
        """Running calls go on when there are more of them than the new limit."""
        self.limit = limit
        self._announce()

    def drain(self) -> None:
        """No call is taken any more."""
        self.draining = True
        self._turned_away.clear()

    def refusal(self, caller: Caller) -> ErrorHead | None:
        """None: a slot is taken, to be given back by `release`. Else why not; `caller` is told when that changes."""
        ongoing = self.ongoing
        if ongoing < self.limit and self._opened and not self.draining:
            self.ongoing = ongoing + 1
            return None
        if self.draining:
            return ErrorHead(DRAINING, "The replica is stopping.", ongoing)
        self._turned_away[id(caller)] = caller
        return ErrorHead(REJECTED, "The replica is full.", ongoing)

    def release(self) -> int:
        """Gives a slot back; returns how many calls still run."""
        self.ongoing = ongoing = self.ongoing - 1
        if self._turned_away:
            self._announce()
        if not ongoing and self._idle:
            idle, self._idle = self._idle, []
            for callback in idle:
                callback()
        return ongoing

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Calls back once, as soon as no call runs; at once when none does."""
        if self.ongoing:
            self._idle.append(callback)
        else:
            callback()

    def _announce(self) -> None:
        if self._opened and not self.draining and self.ongoing < self.limit:
            turned_away, self._turned_away = self._turned_away, {}
            for caller in turned_away.values():
                caller.room()


class CountedSlots(Slots):
    """Says once, by `on_spent`, that so many calls have been taken; takes calls as before afterwards."""

    __slots__ = ("_left", "_on_spent")

    def __init__(self, limit: int, max_calls: int, on_spent: Callable[[], object]) -> None:
        super().__init__(limit)
        self._left = max_calls
        self._on_spent = on_spent

    def refusal(self, caller: Caller) -> ErrorHead | None:
        refused = super().refusal(caller)
        if refused is None and self._left:
            self._left -= 1
            if not self._left:
                self._on_spent()
        return refused
