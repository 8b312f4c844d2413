"""Bare uvicorn, one process, uvloop and httptools, no access log: raw ASGI and FastAPI."""

from __future__ import annotations

from pathlib import Path

from bench.load import Request
from bench.systems.base import APPS, Launch, Workload, executable, http_request


class Uvicorn:
    """Raw ASGI: no framework at all."""

    name = "uvicorn"
    title = "uvicorn raw ASGI"
    environment = "uvicorn"
    start_s = 0.6
    ends_orderly = True
    module = "raw_asgi"
    workloads: tuple[str, ...] = ("noop", "echo", "stream", "batch")

    def launch(self, workload: Workload, port: int, temp_dir: Path) -> Launch | None:
        if workload.name not in self.workloads:
            return None
        options = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--log-level", "warning"]
        loop = ["--loop", "uvloop", "--http", "httptools", "--app-dir", str(APPS)]
        return Launch([executable(self.environment, "uvicorn"), f"{self.module}:app", *options, *loop])

    def request(self, workload: Workload, size: int) -> Request:
        return http_request(workload, size)


class UvicornFastAPI(Uvicorn):
    """FastAPI on uvicorn: what a user would write without a serving system."""

    name = "fastapi"
    title = "uvicorn + FastAPI"
    start_s = 1.0
    module = "fastapi_app"
    workloads = ("noop", "json", "typed", "batch")
