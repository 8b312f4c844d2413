"""How long a deployment's answers take at best: what is left of a deadline must be at least that, or it cannot be met.

Only calls with a deadline are measured, so others pay nothing. The fastest of the last answers is an optimist: a
request is given up only when even that would have come too late.
"""

from __future__ import annotations

from collections import deque

_REMEMBERED = 32
_ENOUGH = 8
"""Answers before the measure counts for anything."""


class Pace:
    """`least_s` is 0 until enough is known."""

    __slots__ = ("_recent", "least_s")

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)
        self.least_s = 0.0

    def took(self, seconds: float) -> None:
        """An answer has begun so long after its request was sent to a replica."""
        self._recent.append(seconds)
        if len(self._recent) >= _ENOUGH:
            self.least_s = min(self._recent)
