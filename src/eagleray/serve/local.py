"""Local testing mode, as `serve.run` and its sisters see it: an engine in this process instead of an instance.

The engine runs replicas and a proxy, which are floors above this one, so it is loaded by its name, and only when it is
asked for.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from eagleray.base.errors import EaglerayError
from eagleray.base.settings import Settings
from eagleray.serve import context
from eagleray.serve.runtime import Runtime
from eagleray.spec.application import ApplicationSpec
from eagleray.spec.options import HTTPOptions
from eagleray.spec.status import ServeStatus

Code = Mapping[str, Mapping[str, Any]]
"""Application -> deployment -> class or function."""


class Engine(Protocol):
    """Runs applications in this process. All methods block, and may be called in any thread."""

    runtime: Runtime
    """Carries handle calls of code that runs in no replica."""

    def deploy(self, specs: Sequence[ApplicationSpec], blobs: Mapping[str, bytes], code: Code) -> None:
        """Returns when the applications run. DeployError, and nothing changed, when one cannot."""

    def delete(self, name: str) -> None:
        """Ends an application; an unknown one is no error."""

    def status(self) -> ServeStatus:
        """What runs."""

    def connect(self) -> Any:
        """A connection to the proxy, with what http.client needs of a socket."""

    def close(self) -> None:
        """Ends everything."""


class _Local:
    __slots__ = ("engine",)

    def __init__(self) -> None:
        self.engine: Engine | None = None


_local = _Local()


def is_wanted(asked: bool = False) -> bool:
    """Whether applications are to run in this process: the caller or the environment says so."""
    return asked or Settings.from_env().local_testing_mode


def running() -> Engine | None:
    """The engine of this process, if it has one."""
    return _local.engine


def start(http: HTTPOptions | None = None) -> Engine:
    """The engine of this process, started if need be. EaglerayError when this process has an instance.

    Of `http` only what a proxy without a socket can follow has an effect: root path, time-out, limits.
    """
    if _local.engine is None:
        if context.process.runtime is not None:
            raise EaglerayError(
                "Local testing mode cannot be used beside a running instance: call `serve.shutdown()` first."
            )
        engine: Engine = import_module("eagleray.testing.local").LocalEngine(http or HTTPOptions())
        _local.engine = engine
        context.process.find_runtime = lambda: engine.runtime
        atexit.register(stop)
    return _local.engine


def stop() -> bool:
    """Ends the engine; False when there is none."""
    engine, _local.engine = _local.engine, None
    if engine is None:
        return False
    atexit.unregister(stop)
    context.process.find_runtime = None
    engine.close()
    return True


def _after_fork() -> None:
    """A fork has none of the engine's threads."""
    _local.engine = None
    context.process.find_runtime = None


os.register_at_fork(after_in_child=_after_fork)
