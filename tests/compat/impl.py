"""Which system the compatibility scripts run on, and how to start it: Eagleray, or Ray Serve with SERVE_IMPL=ray, or
Eagleray's local testing mode with SERVE_IMPL=local.

The scripts import `serve` from here and use only the public API; expectations never depend on `ON_RAY`. Where
Eagleray deliberately differs, the test says so with `differs(key)`, whose key names a row of docs/compat.md.
"""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.compat.client import Reply, request
from tests.waiting import wait_until

NAME = os.environ.get("SERVE_IMPL", "eagleray")
ON_RAY = NAME == "ray"
IN_PROCESS = NAME == "local"
ROOT = Path(__file__).parents[2]

if ON_RAY:
    # Ray's workers import what the driver pickled by reference; an instance that is told less also starts faster.
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0", RAY_prestart_worker_first_driver="0", RAY_enable_worker_prestart="0"
    )
if IN_PROCESS:
    os.environ["EAGLERAY_LOCAL_TESTING_MODE"] = "1"


def module(name: str = "") -> ModuleType:
    """The system's `serve`, or its submodule `name`."""
    root = "ray.serve" if ON_RAY else "eagleray.serve"
    return importlib.import_module(f"{root}.{name}" if name else root)


serve = module()
exceptions = module("exceptions")
DeploymentHandle = module("handle").DeploymentHandle


def differs(key: str) -> pytest.MarkDecorator:
    """Marks a test of what Eagleray does otherwise: row `key` of docs/compat.md. On Ray it is reported as xfail."""
    return pytest.mark.xfail(ON_RAY, reason=f"Eagleray differs from Ray Serve on purpose: {key}", run=False)


needs_processes = pytest.mark.skipif(
    IN_PROCESS, reason="local testing mode: one process, one replica, no controller (docs/testing.md)"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class App:
    """A deployed application: its ingress handle, and HTTP below its route prefix."""

    def __init__(self, instance: Instance, name: str, prefix: str | None, handle: Any) -> None:
        self.instance = instance
        self.name = name
        self.prefix = prefix
        self.handle = handle

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """`handle.remote(...)`, waited for."""
        return self.handle.remote(*args, **kwargs).result(timeout_s=20)

    def get(self, path: str = "", **kwargs: Any) -> Reply:
        return self.http("GET", path, **kwargs)

    def http(self, method: str, path: str = "", **kwargs: Any) -> Reply:
        prefix = "" if self.prefix in (None, "/") else self.prefix
        return request(self.instance.port, method, f"{prefix}{path}" or "/", **kwargs)

    def answers(self) -> bool:
        """Whether its route is there."""
        try:
            return self.get().status != 404
        except OSError:
            return False

    def status(self) -> Any:
        return serve.status().applications[self.name]


class Instance:
    """A running system with an HTTP port of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._numbers = itertools.count(1)

    def run(self, target: Any, name: str = "", route_prefix: str | None = "", **kwargs: Any) -> App:
        """`serve.run` under a name and a route prefix that nobody else uses, unless they are given."""
        name = name or f"app{next(self._numbers)}"
        prefix = f"/{name}" if route_prefix == "" else route_prefix
        return App(self, name, prefix, serve.run(target, name=name, route_prefix=prefix, **kwargs))

    def get(self, path: str, **kwargs: Any) -> Reply:
        return request(self.port, "GET", path, **kwargs)


def prepare() -> None:
    """What must run before `serve.start` and is not part of Serve: a Ray cluster, once per process."""
    if ON_RAY:
        import ray

        if not ray.is_initialized():
            ray.init(num_cpus=64, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@contextmanager
def running(grpc_options: Any = None, **http_options: Any) -> Iterator[Instance]:
    """An instance from `serve.start` to `serve.shutdown`."""
    prepare()
    port = http_options.setdefault("port", free_port())
    serve.start(http_options=http_options, grpc_options=grpc_options)
    try:
        yield Instance(port)
    finally:
        serve.shutdown()


def _has_no_controller() -> bool:
    """Whether Ray has forgotten the controller; until then `serve.start` would join one that is going."""
    import ray

    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return True
    return False


@contextmanager
def command_line(target: str, *arguments: str) -> Iterator[App]:
    """`eagleray run` in a process of its own until Ctrl-C; `serve run` against the Ray that this process began."""
    port = free_port()
    if ON_RAY:
        prepare()
        serve.start(http_options={"port": port})
        command = [sys.executable, "-m", "ray.serve.scripts", "run", "--address", "auto", target, *arguments]
    else:
        command = [sys.executable, "-m", "eagleray.cli", "run", "--port", str(port), target, *arguments]
    app = App(Instance(port), "default", "/", None)
    try:
        with _until_interrupted(command, app):
            yield app
    finally:
        serve.shutdown()
        if ON_RAY:
            wait_until(_has_no_controller, "the end of the instance that the command line has shut down")


@contextmanager
def script(module_name: str) -> Iterator[tuple[App, list[str]]]:
    """Runs a script, which gets a port, until Ctrl-C; the list has its output when the block has ended."""
    port = free_port()
    app = App(Instance(port), "default", "/", None)
    output: list[str] = []
    with _until_interrupted([sys.executable, "-m", module_name, str(port)], app, output):
        yield app, output


@contextmanager
def _until_interrupted(command: list[str], app: App, output: list[str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: process.poll() is not None or app.answers(), f"{command} to answer")
        assert process.poll() is None, f"{command} ended by itself"
        yield
    finally:
        process.send_signal(signal.SIGINT)
        text = process.communicate()[0]
        print(text)
        if output is not None:
            output += [*text.splitlines(), f"exit code {process.returncode}"]
