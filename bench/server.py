"""One system's life in the bench: spawned, awaited, measured, stopped, and verified gone."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench import grpc_load, processes
from bench.load import Request
from bench.systems.base import APPS, System, Workload

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
ORPHAN_GRACE_S = 2.0
"""What is left this long after the command has ended is an orphan, noted in the results and killed."""


class ServerError(RuntimeError):
    """A system did not start, answered wrongly, or could not be stopped."""


class LeftBehind(UserWarning):
    """A system did not end by itself: noted in the results, then killed."""


@dataclass
class Server:
    """A running system. `ready_s` counts from spawning the command to the first 200."""

    system: System
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    answers: IO[str] | None
    ready_s: float = 0.0

    def ask(self, command: str) -> dict[str, Any]:
        """Sends one command to apps/driver.py and waits for its answer."""
        assert self.process.stdin is not None and self.answers is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        line = self.answers.readline()
        if not line:
            raise ServerError(f"{self.system.name}: the driver ended at {command!r}\n{self.tail()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tail(self) -> str:
        """The end of what the system has printed."""
        return self.log.read_text(errors="replace")[-3000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers_ok(port: int, request: Request) -> bool:
    if request.method == "GRPC":
        return grpc_load.answers(port, request)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": request.content_type} if request.content_type else {}
        connection.request(request.method, request.path, request.body or None, headers)
        response = connection.getresponse()
        response.read()
        return response.status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_ready(server: Server, request: Request, period_s: float = 0.005) -> None:
    """Returns at the first 200. Raises ServerError when the command ends before or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers_ok(server.port, request):
        if server.process.poll() is not None:
            status = server.process.returncode
            raise ServerError(f"{server.system.name} ended with {status} before it answered\n{server.tail()}")
        if time.monotonic() > deadline:
            raise ServerError(f"{server.system.name}: no 200 in {START_TIMEOUT_S:.0f} s\n{server.tail()}")
        time.sleep(period_s)


def wait_steady(server: Server, request: Request, steady_s: float = 1.0) -> None:
    """Returns once all answers of `steady_s` were 200: HAProxy may reload, and refuse, after the first good one."""
    deadline = time.monotonic() + START_TIMEOUT_S
    since = time.monotonic()
    while time.monotonic() - since < steady_s:
        if not _answers_ok(server.port, request):
            since = time.monotonic()
            if since > deadline:
                raise ServerError(f"{server.system.name} refuses requests again and again\n{server.tail()}")
        time.sleep(0.02)


@contextmanager
def serving(system: System, workload: Workload, size: int = 64) -> Iterator[Server]:
    """Runs `system` with `workload` until the block ends. Nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="er-bench-"))
    port = free_port()
    launch = system.launch(workload, port, folder)
    if launch is None:
        raise ServerError(f"{system.name} has no {workload.name}")
    reading, writing = os.pipe()
    try:
        with open(folder / "log", "wb") as log:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*launch.command, str(writing)] if launch.driver else launch.command,
                stdin=subprocess.PIPE if launch.driver else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=APPS,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    # Whoever installs a package has its bytecode; a checkout gets it in the first run.
                    "PYTHONDONTWRITEBYTECODE": "",
                    "BENCH_LOADS": str(folder / "loads"),
                    **launch.environment,
                },
                start_new_session=True,
                pass_fds=[writing] if launch.driver else [],
            )
        os.close(writing)
        with os.fdopen(reading) as answers:
            server = Server(system, port, process, folder / "log", answers)
            try:
                wait_ready(server, system.request(workload, size))
                server.ready_s = time.perf_counter() - started
                wait_steady(server, system.request(workload, size))
                yield server
            finally:
                stop(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stop(server: Server) -> None:
    """Ends the system orderly, then by force; warns with LeftBehind about what did not end by itself."""
    if not server.system.ends_orderly:
        processes.end_all(os.getpid(), 0.0)
        server.process.wait()
        return
    if server.process.stdin is not None:
        try:
            server.process.stdin.close()
        except BrokenPipeError:
            pass
    elif server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        warnings.warn(
            LeftBehind(f"{server.system.name} ran on {STOP_TIMEOUT_S:.0f} s after SIGTERM"), stacklevel=2
        )
        server.process.kill()
        server.process.wait()
        processes.end_all(os.getpid(), 0.0)
        return
    orphans = processes.end_all(os.getpid(), ORPHAN_GRACE_S)
    if orphans:
        warnings.warn(LeftBehind(f"{server.system.name} left orphans: {', '.join(orphans)}"), stacklevel=2)
