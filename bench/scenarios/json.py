"""json: POST of four floats through a FastAPI route with a pydantic body (mosec: its own JSON).

typed: the same to a plain deployment whose parameter is annotated, beside FastAPI on uvicorn.
"""

from __future__ import annotations

from bench.load import measure
from bench.scenarios.base import OTHERS, Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload


class Json:
    """Latency with one connection, throughput with 32."""

    name = "json"
    systems = ("fastapi", *OTHERS)
    metrics = (
        Metric("c1_p50_ms", "1 connection: p50", "ms", False),
        Metric("c32_rps", "32 connections", "req/s", True),
    )

    workload = "json"

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + 2 * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        workload = Workload(self.workload)
        request = system.request(workload, 0)
        with serving(system, workload) as server:
            one, many = (
                measure(server.port, request, connections, settings.warm_up_s, settings.duration_s)
                for connections in (1, 32)
            )
        return {"c1_p50_ms": one.p50_ms, "c32_rps": many.rps}


class Typed(Json):
    """The same request without a framework."""

    name = "typed"
    systems = ("fastapi", "eagleray")
    workload = "typed"
