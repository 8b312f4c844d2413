"""mosec: its own pipeline of one process for each stage; every request is a POST to /inference."""

from __future__ import annotations

from pathlib import Path

from bench.load import Request
from bench.systems.base import APPS, DRIVEN, FLOWER, OCTETS, Launch, Workload, executable


class Mosec:
    """One worker for each stage."""

    name = "mosec"
    title = "mosec"
    environment = "mosec"
    start_s = 0.6
    ends_orderly = False  # after load it takes up to 10 s now and then, and nothing of it is measured

    def launch(self, workload: Workload, port: int, temp_dir: Path) -> Launch | None:
        if workload.name in DRIVEN:
            return None
        program = [
            executable("mosec", "python"),
            str(APPS / "mosec_app.py"),
            workload.name,
            str(workload.depth),
        ]
        options = [
            "--address",
            "127.0.0.1",
            "--port",
            str(port),
            "--log-level",
            "warning",
            "--timeout",
            "10000",
        ]
        return Launch([*program, *options])

    def request(self, workload: Workload, size: int) -> Request:
        if workload.name == "json":
            return Request("POST", "/inference", FLOWER, "application/json")
        return Request("POST", "/inference", b"x" * size if workload.name == "echo" else b"ok", OCTETS)
