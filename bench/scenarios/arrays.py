"""arrays: a 10 MB numpy array as argument from one deployment to another, whose replica looks at every page of it."""

from __future__ import annotations

from bench.scenarios.base import Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload


class Arrays:
    """Latency from replica to replica, measured by the one that calls; one call outstanding."""

    name = "arrays"
    systems = ("ray", "ray-tuned", "eagleray")
    metrics = (
        Metric("mb10_p50_ms", "10 MB numpy: p50", "ms", False),
        Metric("mb10_p99_ms", "10 MB numpy: p99", "ms", False),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        with serving(system, Workload("arrays")) as server:
            if settings.warm_up_s:
                server.ask(f"arrays {settings.warm_up_s}")
            found = server.ask(f"arrays {settings.duration_s}")
        return {"mb10_p50_ms": found["p50_ms"], "mb10_p99_ms": found["p99_ms"]}
