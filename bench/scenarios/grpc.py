"""grpc: unary RPCs through proxy and replica, beside a server that answers by itself."""

from __future__ import annotations

from bench import environments
from bench.grpc_load import measure
from bench.load import ensure_tool
from bench.scenarios.base import Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload


class Grpc:
    """Latency with one RPC outstanding, throughput with 32 (4 connections of 8 streams)."""

    name = "grpc"
    systems = ("grpc-aio", "ray", "eagleray")
    metrics = (
        Metric("o1_p50_ms", "1 outstanding: p50", "ms", False),
        Metric("o32_p50_ms", "32 outstanding: p50", "ms", False),
        Metric("o32_rps", "32 outstanding", "RPCs/s", True),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + 2 * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        ensure_tool("h2load", "nghttp2-client")
        environments.compile_protos()
        workload = Workload("rpc")
        request = system.request(workload, 0)
        with serving(system, workload) as server:
            one, many = (
                measure(server.port, request, connections, streams, settings.warm_up_s, settings.duration_s)
                for connections, streams in ((1, 1), (4, 8))
            )
        return {"o1_p50_ms": one.p50_ms, "o32_p50_ms": many.p50_ms, "o32_rps": many.rps}
