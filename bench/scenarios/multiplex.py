"""multiplex: two replicas with places for four models each, whose loading takes 50 ms; requests name one at random.

Eight models fit, so after a while nothing should be loaded any more; with twelve something has to.
"""

from __future__ import annotations

from bench.load import Request, measure
from bench.scenarios.base import Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload

CONNECTIONS = 16


class Multiplex:
    """Throughput, tail and loads when the models fit; the same when they don't."""

    name = "multiplex"
    systems = ("ray", "ray-tuned", "eagleray")
    metrics = (
        Metric("fit_rps", "8 models in 8 places", "req/s", True),
        Metric("fit_p99_ms", "8 models in 8 places: p99", "ms", False),
        Metric("fit_loads", "8 models in 8 places: loads per 1,000 requests", "", False),
        Metric("crowded_rps", "12 models in 8 places", "req/s", True),
        Metric("crowded_p99_ms", "12 models in 8 places: p99", "ms", False),
        Metric("crowded_loads", "12 models in 8 places: loads per 1,000 requests", "", False),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + 2 * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        found = {}
        with serving(system, Workload("multiplex")) as server:
            loads = server.log.with_name("loads")
            for name, models in (("fit", 8), ("crowded", 12)):
                request = Request(models=models)
                if settings.warm_up_s:
                    measure(server.port, request, CONNECTIONS, 0, settings.warm_up_s)
                before = loads.stat().st_size if loads.exists() else 0
                window = measure(server.port, request, CONNECTIONS, 0, settings.duration_s)
                found[f"{name}_rps"] = window.rps
                found[f"{name}_p99_ms"] = window.p99_ms
                found[f"{name}_loads"] = (loads.stat().st_size - before) / window.requests * 1000
        return found
