"""How the controller itself is, under the names of Ray Serve's `ControllerHealthMetrics`: age, passes, memory."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from eagleray.base.clock import wall_time_s
from eagleray.engine.linux import resident_bytes


class PassTimes:
    """How long the passes of the controller took, in seconds, from the decision to the store's word."""

    __slots__ = ("count", "last_s", "longest_s", "slept_s", "total_s")

    def __init__(self) -> None:
        self.count = 0
        self.last_s = self.longest_s = self.total_s = 0.0
        self.slept_s = 0.0
        """How long nothing had to be done before the last one."""

    def note(self, took_s: float) -> None:
        """One more has ended."""
        self.count += 1
        self.last_s = took_s
        self.longest_s = max(self.longest_s, took_s)
        self.total_s += took_s


def health_metrics(begun_at: float, passes: PassTimes) -> dict[str, Any]:
    """What `controller-health` shows; `begun_at` is wall time. Runs on the controller's loop."""
    now = wall_time_s()
    return {
        "timestamp": now,
        "controller_start_time": begun_at,
        "uptime_s": now - begun_at,
        "num_control_loops": passes.count,
        "loop_duration_s": {
            "mean": passes.total_s / max(passes.count, 1),
            "max": passes.longest_s,
            "last": passes.last_s,
        },
        "num_asyncio_tasks": len(asyncio.all_tasks()),
        "process_memory_mb": round(resident_bytes(os.getpid()) / 2**20, 1),
    }
