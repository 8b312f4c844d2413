"""payload: a body of 1 MB and of 10 MB answered as it is, over one connection."""

from __future__ import annotations

from bench.load import measure
from bench.scenarios.base import OTHERS, Metric, Settings
from bench.server import serving
from bench.systems.base import System, Workload

MB = 1_000_000


class Payload:
    """Megabytes of body per second, counted once although they travel both ways."""

    name = "payload"
    systems = ("uvicorn", *OTHERS)
    metrics = (
        Metric("echo_1mb", "echo 1 MB", "MB/s", True),
        Metric("echo_10mb", "echo 10 MB", "MB/s", True),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        return system.start_s + 2 * settings.window_s

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        workload = Workload("echo")
        found = {}
        with serving(system, workload) as server:
            for megabytes in (1, 10):
                request = system.request(workload, megabytes * MB)
                load = measure(server.port, request, 1, settings.warm_up_s, settings.duration_s)
                found[f"echo_{megabytes}mb"] = load.rps * megabytes
        return found
