"""Time as the rest of the code sees it: monotonic seconds, never wall time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Anything with `now()`: monotonic seconds, comparable between the processes of one machine."""

    def now(self) -> float: ...


class SystemClock:
    """CLOCK_MONOTONIC, which all processes of one Linux machine share."""

    now = staticmethod(time.monotonic)


def wall_time_s() -> float:
    """Wall-clock seconds, to be shown to people only; no decision may depend on it."""
    return time.time()
