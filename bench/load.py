"""HTTP load by Debian's wrk, one thread, keep-alive; its result comes back as numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parent / "apps" / "load.lua"
MODELS_SCRIPT = SCRIPT.with_name("models.lua")
REQUEST_TIMEOUT_S = 10


@dataclass(frozen=True)
class Request:
    """What is sent again and again."""

    method: str = "GET"
    path: str = "/"
    body: bytes = b""
    content_type: str = ""
    models: int = 0
    """Each request names one of so many models, at random."""


@dataclass(frozen=True)
class Load:
    """One window's outcome. `errors` counts answers other than 2xx/3xx, time-outs and broken connections."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def rps(self) -> float:
        return self.requests / self.seconds


class LoadError(RuntimeError):
    """The load could not be measured, or answers were wrong."""


def ensure_tool(name: str, package: str) -> str:
    """Path of the program; installs its Debian package when missing and allowed. Raises LoadError with what to do."""
    found = shutil.which(name)
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LoadError(f"{name} is missing. On Debian: sudo apt-get install {package}")
    print(f"{name} is missing: apt-get install {package}", flush=True)
    subprocess.run(["apt-get", "update", "-qq"], check=False)
    done = subprocess.run(["apt-get", "install", "-y", "-qq", package], check=False)
    found = shutil.which(name)
    if done.returncode != 0 or not found:
        raise LoadError(f"apt-get could not install {package}: see its words above")
    return found


def parse(output: str) -> Load:
    """Reads the line that load.lua prints. Raises LoadError when it is not there."""
    for line in output.splitlines():
        if line.startswith("WRK "):
            found = json.loads(line[4:])
            return Load(
                requests=found["requests"],
                seconds=found["seconds"],
                p50_ms=found["p50_ms"],
                p99_ms=found["p99_ms"],
                errors=sum(found["errors"].values()),
            )
    raise LoadError(f"wrk gave no result: {output.strip()[-500:]}")


@contextmanager
def _body_file(body: bytes) -> Iterator[str]:
    if not body:
        yield "-"
        return
    with tempfile.NamedTemporaryFile(prefix="er-body-") as file:
        file.write(body)
        file.flush()
        yield file.name


def run(port: int, request: Request, connections: int, seconds: float) -> Load:
    """One window of load. wrk counts whole seconds, so `seconds` is rounded up. Raises LoadError on any error."""
    with _body_file(request.body) as body:
        command = [
            *(ensure_tool("wrk", "wrk"), "--threads", "1", "--connections", str(connections), "--latency"),
            *("--duration", f"{max(1, round(seconds + 0.49))}s", "--timeout", f"{REQUEST_TIMEOUT_S}s"),
            *(
                "--script",
                str(MODELS_SCRIPT if request.models else SCRIPT),
                f"http://127.0.0.1:{port}{request.path}",
                "--",
            ),
            *(request.method, request.content_type or "-", body, str(request.models)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    load = parse(done.stdout + done.stderr)
    if load.errors or not load.requests:
        raise LoadError(f"{load.errors} errors in {load.requests} requests with {connections} connections")
    return load


def measure(port: int, request: Request, connections: int, warm_up_s: float, seconds: float) -> Load:
    """A warm-up window, thrown away, then the window that counts."""
    if warm_up_s:
        run(port, request, connections, warm_up_s)
    return run(port, request, connections, seconds)
