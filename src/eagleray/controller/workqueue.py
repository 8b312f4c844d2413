"""Which keys must be reconciled: at once, or at a moment. Each key is in the queue at most once."""

from __future__ import annotations

import heapq
from collections.abc import Iterable


class WorkQueue:
    """Keys in the order in which they became dirty, and one alarm per key. Times are the caller's seconds."""

    def __init__(self) -> None:
        self._dirty: dict[str, None] = {}
        self._alarms: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._dirty)

    def mark(self, keys: Iterable[str]) -> None:
        self._dirty.update(dict.fromkeys(keys))

    def take(self) -> str | None:
        """The key that has been dirty for longest; None when nothing is."""
        if not self._dirty:
            return None
        key = next(iter(self._dirty))
        del self._dirty[key]
        return key

    def schedule(self, key: str, at: float | None) -> None:
        """Sets or, with None, clears the alarm of a key; a former one is replaced."""
        if at is None:
            self._alarms.pop(key, None)
        elif self._alarms.get(key) != at:
            self._alarms[key] = at
            heapq.heappush(self._heap, (at, key))

    def promote(self, now: float) -> None:
        """Keys whose alarm has come become dirty."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._alarms.get(key) == at:
                del self._alarms[key]
                self._dirty[key] = None

    def next_at(self) -> float | None:
        """When the next alarm is; None without one."""
        while self._heap and self._alarms.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
