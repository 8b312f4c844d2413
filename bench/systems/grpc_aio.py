"""Bare grpc.aio, one process, uvloop: what a gRPC server in Python costs without any serving system."""

from __future__ import annotations

from pathlib import Path

from bench.load import Request
from bench.systems.base import APPS, PROTOS, Launch, Workload, executable, grpc_request


class GrpcAio:
    """The servicer answers by itself."""

    name = "grpc-aio"
    title = "bare grpc.aio"
    environment = "eagleray"
    start_s = 0.6
    ends_orderly = False  # it has no other end than a signal

    def launch(self, workload: Workload, port: int, temp_dir: Path) -> Launch | None:
        if workload.name != "rpc":
            return None
        program = [executable(self.environment, "python"), str(APPS / "grpc_aio.py"), str(port)]
        return Launch(program, {"PYTHONPATH": f"{APPS}:{PROTOS}"})

    def request(self, workload: Workload, size: int) -> Request:
        return grpc_request()
