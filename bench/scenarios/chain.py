"""chain: an HTTP entry and n-1 further deployments behind it, called through handles (mosec: n stages)."""

from __future__ import annotations

from bench.load import measure
from bench.scenarios.base import OTHERS, Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload

DEPTHS = (1, 2, 3, 5)


class Chain:
    """p50 by depth, the mean of what each hop adds, and throughput of a chain of two."""

    name = "chain"
    systems = OTHERS
    metrics = (
        *(
            Metric(f"n{depth}_p50_ms", f"chain of {depth}, 1 connection: p50", "ms", False)
            for depth in DEPTHS
        ),
        Metric("hop_ms", "added p50 per hop", "ms", False),
        Metric("n2_c32_rps", "chain of 2, 32 connections", "req/s", True),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return len(DEPTHS) * system.start_s + (len(DEPTHS) + 1) * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        found = {}
        for depth in DEPTHS:
            workload = Workload("chain", depth)
            request = system.request(workload, 0)
            with serving(system, workload) as server:
                one = measure(server.port, request, 1, settings.warm_up_s, settings.duration_s)
                found[f"n{depth}_p50_ms"] = one.p50_ms
                if depth == 2:
                    many = measure(server.port, request, 32, settings.warm_up_s, settings.duration_s)
                    found["n2_c32_rps"] = many.rps
        found["hop_ms"] = (found[f"n{DEPTHS[-1]}_p50_ms"] - found["n1_p50_ms"]) / (DEPTHS[-1] - 1)
        return found
