"""Eagleray: `eagleray run` for HTTP, apps/driver.py where a driver calls through a handle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.environments import ROOT
from bench.load import Request
from bench.systems.base import APPS, DRIVEN, PROTOS, Launch, Workload, executable, grpc_request, http_request

UNWATCHED = {"EAGLERAY_METRICS": "0", "EAGLERAY_LOG_LEVEL": "WARNING"}
"""Nothing is counted, and no line of level INFO is written: no access log either."""


class Eagleray:
    """The source of `checkout`, in the environment of this one: that is how two revisions are compared."""

    environment = "eagleray"
    start_s = 2.0
    ends_orderly = True

    def __init__(
        self,
        checkout: Path = ROOT,
        name: str = "eagleray",
        title: str = "Eagleray",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` are environment variables of the instance."""
        self.checkout, self.name, self.title = checkout, name, title
        self.settings = dict(settings or {})

    def launch(self, workload: Workload, port: int, temp_dir: Path) -> Launch | None:
        environment = {
            "PYTHONPATH": f"{self.checkout / 'src'}:{APPS}",
            "SERVE_IMPL": "eagleray",
        } | self.settings
        if workload.name in DRIVEN:
            application = DRIVEN[workload.name]
            program = [executable("eagleray", "python"), str(APPS / "driver.py"), application, "1", str(port)]
            return Launch(program, environment, driver=True)
        if workload.name == "rpc":
            environment["PYTHONPATH"] += f":{PROTOS}"
            servicer = "answer_pb2_grpc:add_AnswererServicer_to_server"
            grpc = ["--port", "0", "--grpc-port", str(port), "--grpc-servicer-functions", servicer]
            program = [
                executable("eagleray", "eagleray"),
                "run",
                "serving:rpc",
                "x=1",
                "--app-dir",
                str(APPS),
            ]
            return Launch([*program, *grpc], environment)
        options = ["--host", "127.0.0.1", "--port", str(port), "--app-dir", str(APPS)]
        command = [
            executable("eagleray", "eagleray"),
            "run",
            f"serving:{workload.name}",
            f"depth={workload.depth}",
        ]
        return Launch([*command, *options], environment)

    def request(self, workload: Workload, size: int) -> Request:
        return grpc_request() if workload.name == "rpc" else http_request(workload, size)
