"""handle: calls of a deployment's method awaited in a driver script, without HTTP."""

from __future__ import annotations

from bench.scenarios.base import Metric, Settings
from bench.server import Server, serving
from bench.systems.base import System, Workload


class Handle:
    """Latency with one call outstanding, throughput with 100."""

    name = "handle"
    systems = ("ray", "ray-tuned", "eagleray")
    metrics = (
        Metric("o1_p50_ms", "1 outstanding: p50", "ms", False),
        Metric("o1_p99_ms", "1 outstanding: p99", "ms", False),
        Metric("o100_cps", "100 outstanding", "calls/s", True),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + 2 * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        with serving(system, Workload("handle")) as server:
            one = self._call(server, 1, settings)
            many = self._call(server, 100, settings)
        return {
            "o1_p50_ms": one["p50_ms"],
            "o1_p99_ms": one["p99_ms"],
            "o100_cps": many["calls"] / many["seconds"],
        }

    def _call(self, server: Server, outstanding: int, settings: Settings) -> dict[str, float]:
        if settings.warm_up_s:
            server.ask(f"handle {outstanding} {settings.warm_up_s}")
        return server.ask(f"handle {outstanding} {settings.duration_s}")
