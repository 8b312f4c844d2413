"""Request timeouts without a timer for each request: requests that end at about the same time share one.

Only requests with a timeout come here. One that ends in time leaves its bucket, so nothing is kept for the dead.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

_FINEST_S = 1 / 64
"""Width of the buckets of short timeouts: they strike up to so much late, never early."""

_TIMERS = 64
"""Buckets are so wide that a timeout spans at most twice as many: it strikes at most 1/64 of itself late."""


class Timed(Protocol):
    """What can time out."""

    def on_deadline(self) -> None: ...


class Deadlines:
    """Buckets of requests by the time when they end; belongs to the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buckets: dict[float, set[Timed]] = {}

    def add(self, request: Timed, timeout_s: float) -> set[Timed]:
        """Has `on_deadline` called in `timeout_s`; the caller discards `request` from the returned set to stop it."""
        width = _FINEST_S
        while width * _TIMERS < timeout_s:
            width *= 2
        # Powers of two, so that bucket ends of all widths are exact and equal ones coincide.
        end = (int((self._loop.time() + timeout_s) / width) + 1) * width
        bucket = self._buckets.get(end)
        if bucket is None:
            bucket = self._buckets[end] = set()
            self._loop.call_at(end, self._expire, end)
        bucket.add(request)
        return bucket

    def _expire(self, end: float) -> None:
        bucket = self._buckets.pop(end)
        while bucket:
            bucket.pop().on_deadline()
