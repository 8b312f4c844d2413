"""noop: one deployment that answers "ok"; what the path itself costs."""

from __future__ import annotations

from bench.load import measure
from bench.scenarios.base import OTHERS, Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload


class Noop:
    """Latency with one connection, throughput with 32 and 100."""

    name = "noop"
    systems = ("uvicorn", *OTHERS)
    metrics = (
        Metric("c1_p50_ms", "1 connection: p50", "ms", False),
        Metric("c1_p99_ms", "1 connection: p99", "ms", False),
        Metric("c32_rps", "32 connections", "req/s", True),
        Metric("c100_rps", "100 connections", "req/s", True),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + 3 * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        workload = Workload("noop")
        request = system.request(workload, 0)
        with serving(system, workload) as server:
            one, many, more = (
                measure(server.port, request, connections, settings.warm_up_s, settings.duration_s)
                for connections in (1, 32, 100)
            )
        return {"c1_p50_ms": one.p50_ms, "c1_p99_ms": one.p99_ms, "c32_rps": many.rps, "c100_rps": more.rps}
