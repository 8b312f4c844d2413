"""stream: 1,000 small chunks a response, straight from the entry and through one middle deployment."""

from __future__ import annotations

from bench.chunks import first_chunk_ms
from bench.load import Request, measure
from bench.scenarios.base import Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload

CHUNKS = 1000
PAUSED = Request("GET", "/stream?pause")
"""5 ms between the first chunk and the second: without, two cores are busy making more when the first one travels."""


class Stream:
    """Chunks per second with 1 and 10 clients, time to the first chunk, and what a middle deployment costs."""

    name = "stream"
    systems = ("uvicorn", "ray-tuned", "eagleray")
    relayed = ("ray-tuned", "eagleray")
    metrics = (
        Metric("c1_cps", "1 client", "chunks/s", True),
        Metric("c10_cps", "10 clients", "chunks/s", True),
        Metric("first_ms", "time to first chunk: p50", "ms", False),
        Metric("relay_c1_cps", "through a middle deployment, 1 client", "chunks/s", True),
        Metric("relay_c10_cps", "through a middle deployment, 10 clients", "chunks/s", True),
        Metric("relay_c1", "through a middle deployment, 1 client, part of the direct stream", "", True),
        Metric("relay_c10", "through a middle deployment, 10 clients, part of the direct stream", "", True),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return 2 * system.start_s + 5 * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        found = self._rates(system, Workload("stream"), settings, "")
        if system.name in self.relayed:
            found |= self._rates(system, Workload("relay"), settings, "relay_")
            for clients in ("c1", "c10"):
                found[f"relay_{clients}"] = found[f"relay_{clients}_cps"] / found[f"{clients}_cps"]
        return found

    def _rates(self, system: System, workload: Workload, settings: Settings, prefix: str) -> dict[str, float]:
        request = system.request(workload, 0)
        found = {}
        with serving(system, workload) as server:
            for connections in (1, 10):
                load = measure(server.port, request, connections, settings.warm_up_s, settings.duration_s)
                found[f"{prefix}c{connections}_cps"] = load.rps * CHUNKS
            if not prefix:
                found["first_ms"] = first_chunk_ms(server.port, PAUSED, settings.duration_s)
        return found
