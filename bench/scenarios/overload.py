"""overload: three times as many requests as can be served, sent without waiting for answers.

The model takes 20 ms for each of 8 requests at once, so 400 a second are the most; as many as that may wait. Queues,
limits and their refusals are the system's own.
"""

from __future__ import annotations

from bench import open_loop
from bench.load import measure
from bench.scenarios.base import Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload

CAPACITY = 400.0


class Overload:
    """Goodput at three times the capacity, as a part of the peak, and what the accepted ones wait."""

    name = "overload"
    systems = ("ray-tuned", "eagleray")
    metrics = (
        Metric("peak_rps", "peak", "req/s", True),
        Metric("goodput", "3 x capacity: goodput, part of the peak", "", True),
        Metric("p99_ms", "3 x capacity: p99 of the accepted", "ms", False),
        Metric("p99_ratio", "p99 of the accepted, times that at 80 % load", "", False),
        Metric("refusal_p50_ms", "refusals: p50", "ms", False),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + settings.window_s + 2 * settings.duration_s + 3

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        workload = Workload("overload")
        request = system.request(workload, 0)
        seconds = max(settings.duration_s, 3.0)
        with serving(system, workload) as server:
            peak = measure(server.port, request, 12, settings.warm_up_s, settings.duration_s).rps
            normal = open_loop.run(server.port, request, 0.8 * CAPACITY, seconds)
            flood = open_loop.run(server.port, request, 3 * CAPACITY, seconds)
        p99 = flood.percentile_ms(99)
        return {
            "peak_rps": peak,
            "goodput": flood.rate() / peak,
            "p99_ms": p99,
            "p99_ratio": p99 / normal.percentile_ms(99),
            "refusal_p50_ms": flood.percentile_ms(50, 503),
        }
