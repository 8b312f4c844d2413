"""observability: noop as it comes, with metrics and access logs, beside the same with all of it switched off."""

from __future__ import annotations

from bench.load import measure
from bench.scenarios.base import Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload


class Observability:
    """What watching costs a request: latency with one connection, throughput with 32."""

    name = "observability"
    systems = ("eagleray-unwatched", "eagleray")
    metrics = (
        Metric("c1_p50_ms", "1 connection: p50", "ms", False),
        Metric("c1_p99_ms", "1 connection: p99", "ms", False),
        Metric("c32_rps", "32 connections", "req/s", True),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + 2 * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        workload = Workload("noop")
        request = system.request(workload, 0)
        with serving(system, workload) as server:
            one, many = (
                measure(server.port, request, connections, settings.warm_up_s, settings.duration_s)
                for connections in (1, 32)
            )
        return {"c1_p50_ms": one.p50_ms, "c1_p99_ms": one.p99_ms, "c32_rps": many.rps}
