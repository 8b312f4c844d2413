"""What the bench needs to know of a system: how its workloads are started, and what is sent to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.environments import VENVS
from bench.load import Request

APPS = Path(__file__).resolve().parent.parent / "apps"
PROTOS = VENVS / "protos"
"""Where `environments.compile_protos` puts the generated modules of apps/answer.proto."""

FLOWER = b'{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}'
OCTETS = "application/octet-stream"

DRIVEN = {"handle": "noop", "arrays": "arrays"}
"""Workloads that apps/driver.py calls, not wrk, and the application that it deploys for each."""


@dataclass(frozen=True)
class Workload:
    """One application, a builder of apps/serving.py; `handle` is called by a driver, `depth` is of `chain`."""

    name: str
    depth: int = 1


@dataclass(frozen=True)
class Launch:
    """A command to spawn. With `driver`, it is apps/driver.py: it gets a pipe for answers and listens on stdin."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    driver: bool = False


class System(Protocol):
    """A product beside others. `name` appears in the results; `environment` is a folder of .venvs/."""

    name: str
    title: str
    environment: str
    start_s: float
    """About how long start and stop take together, for the plan's estimate."""
    ends_orderly: bool
    """Asked to stop, and what it leaves behind is noted; else its whole process tree is killed at once."""

    def launch(self, workload: Workload, port: int, temp_dir: Path) -> Launch | None:
        """How `workload` is served on `port`; None when the system has no such thing."""

    def request(self, workload: Workload, size: int) -> Request:
        """What one client sends; `size` is the body's for `echo`."""


def executable(environment: str, name: str) -> str:
    """Path of a program in one of the environments."""
    return str(VENVS / environment / "bin" / name)


def http_request(workload: Workload, size: int) -> Request:
    """The request that all but mosec use; uvicorn's apps and the Ray Serve API agree on the paths."""
    if workload.name in ("json", "typed"):
        return Request("POST", "/score", FLOWER, "application/json")
    if workload.name == "echo":
        return Request("POST", "/echo", b"x" * size, OCTETS)
    if workload.name in ("stream", "relay"):
        return Request("GET", "/stream")
    if workload.name == "batch":
        return Request(path="/batch")
    return Request()


def grpc_request() -> Request:
    """One RPC of apps/answer.proto, with a Question whose text is "hello"."""
    return Request("GRPC", "/answer.Answerer/Answer", b"\0\0\0\0\x07\x0a\x05hello", "application/grpc")
