"""cold: from spawning the command to the first 200; then what the idle system costs."""

from __future__ import annotations

import os
import time

from bench import processes
from bench.scenarios.base import OTHERS, Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload

SETTLE_S = 2.0
"""Between the first answer and the watch; systems that start slowly get as much again for their after-work."""
SLOW_START_S = 5.0


class Cold:
    """Time to first answer; processes, summed PSS and CPU of the whole process tree while nobody calls."""

    name = "cold"
    systems = ("uvicorn", "fastapi", *OTHERS)
    metrics = (
        Metric("first_200_s", "first 200", "s", False),
        Metric("processes", "processes", "", False),
        Metric("pss_mb", "memory (summed PSS)", "MB", False),
        Metric("idle_cpu_percent", "idle CPU of a core", "%", False),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + self._settle_s(system, settings) + settings.idle_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        with serving(system, Workload("noop")) as server:
            time.sleep(self._settle_s(system, settings))
            tree = processes.descendants(os.getpid())
            before, started = processes.cpu_s(tree), time.perf_counter()
            time.sleep(settings.idle_s)
            used_s = processes.cpu_s(tree) - before
            elapsed_s = time.perf_counter() - started
            return {
                "first_200_s": server.ready_s,
                "processes": len(tree),
                "pss_mb": processes.pss_bytes(tree) / 1e6,
                "idle_cpu_percent": max(0.0, 100 * used_s / elapsed_s),
            }

    def _settle_s(self, system: System, settings: Settings) -> float:
        return min(settings.idle_s, SETTLE_S * (2 if system.start_s > SLOW_START_S else 1))
