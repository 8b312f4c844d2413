"""Ray Serve under apps/driver.py, as it comes and tuned with the variables that its makers offer."""

from __future__ import annotations

from pathlib import Path

from bench.load import Request
from bench.systems.base import APPS, DRIVEN, PROTOS, Launch, Workload, executable, grpc_request, http_request


class RayDefault:
    """Defaults but for `max_ongoing_requests` and `num_cpus`, which apps/serving.py sets for all."""

    name = "ray"
    title = "Ray Serve default"
    environment = "ray"
    start_s = 10.0
    ends_orderly = False  # an orderly end takes 3 s, each of many times, and nothing of it is measured
    settings: dict[str, str] = {}  # noqa: RUF012

    def launch(self, workload: Workload, port: int, temp_dir: Path) -> Launch | None:
        application = DRIVEN.get(workload.name, workload.name)
        program = [
            executable("ray", "python"),
            str(APPS / "driver.py"),
            application,
            str(workload.depth),
            str(port),
        ]
        environment = {
            "SERVE_IMPL": "ray",
            "RAY_USAGE_STATS_ENABLED": "0",
            "BENCH_TEMP_DIR": str(temp_dir),
            "PYTHONPATH": f"{APPS}:{PROTOS}",
            **self.settings,
        }
        return Launch(program, environment, driver=True)

    def request(self, workload: Workload, size: int) -> Request:
        return grpc_request() if workload.name == "rpc" else http_request(workload, size)


class RayTuned(RayDefault):
    """HAProxy in front, throughput mode; the message length is needed for 10 MB bodies between replicas."""

    name = "ray-tuned"
    title = "Ray Serve tuned"
    start_s = 11.0
    settings = {  # noqa: RUF012
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": "104857600",
    }
