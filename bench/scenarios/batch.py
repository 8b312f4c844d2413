"""batch: 64 connections to a model that takes 5 ms for up to 32 items at once; a batch waits up to 5 ms for more."""

from __future__ import annotations

from bench.load import measure
from bench.scenarios.base import OTHERS, Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload


class Batch:
    """Throughput and latency; 32 items every 5 ms are 6,400 a second."""

    name = "batch"
    systems = ("uvicorn", "fastapi", *OTHERS)
    metrics = (
        Metric("c64_rps", "64 connections", "req/s", True),
        Metric("c64_p50_ms", "64 connections: p50", "ms", False),
        Metric("c64_p99_ms", "64 connections: p99", "ms", False),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        workload = Workload("batch")
        with serving(system, workload) as server:
            load = measure(
                server.port, system.request(workload, 0), 64, settings.warm_up_s, settings.duration_s
            )
        return {"c64_rps": load.rps, "c64_p50_ms": load.p50_ms, "c64_p99_ms": load.p99_ms}
