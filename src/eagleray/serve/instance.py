"""The instance that this process drives or has attached to: node, and the thread that carries its handle calls.

A driver owns what it has started and ends it in `stop`, at exit or by dying (node watches). What it has merely
attached to, because the environment names it or because it is that of `eagleray start`, is left alone.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eagleray.base.errors import EaglerayError, NotRunningError
from eagleray.base.settings import Settings
from eagleray.engine.detached import Places, find_running, is_running
from eagleray.engine.spawn import NodeProcess, node_config, spawn_node
from eagleray.serve import context
from eagleray.serve.graph import user_path
from eagleray.serve.job import job
from eagleray.serve.runtime import Runtime, RuntimeThread
from eagleray.spec.options import ControllerOptions, HTTPOptions, LoggingConfig, TracingConfig, gRPCOptions
from eagleray.wire.control import Empty

logger = logging.getLogger("ray.serve")

SHUTDOWN_TIMEOUT_S = 30.0
"""Time for an ordered end: applications drain. After it node ends what is left within 2 s."""


class Instance:
    """One instance as this process sees it. `node` is None when somebody else has started it."""

    def __init__(
        self,
        node: NodeProcess | None,
        address: str,
        http: HTTPOptions,
        logging: LoggingConfig | None,
        grpc: gRPCOptions | None = None,
        places: Places | None = None,
        tracing: TracingConfig | None = None,
    ) -> None:
        self.http = http
        self.grpc = grpc or gRPCOptions()
        self.tracing = tracing or TracingConfig()
        self.logging = logging
        self.places = places
        """Of the instance of `eagleray start`, when it is that one."""
        self.is_told = False
        """Whether the user knows that."""
        self._node = node
        self._pid = os.getpid()
        self._thread = RuntimeThread(address)
        self.runtime = self._thread.runtime
        context.install(self.runtime, context.process.replica)

    @classmethod
    def start(
        cls,
        http: HTTPOptions,
        logging: LoggingConfig | None,
        controller: ControllerOptions,
        grpc: gRPCOptions,
        tracing: TracingConfig | None = None,
    ) -> Instance:
        """Starts node and returns at once: whatever is asked of the controller waits until it is there."""
        given = http.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude={"host", "port"})
        options = {name: getattr(http, name) for name in ("host", "port") if name in http.model_fields_set}
        config = node_config(
            http_options=given,
            grpc_options={**grpc.model_dump(mode="json"), "sys_path": user_path()} if grpc.is_served else {},
            logging_config=logging.model_dump(mode="json") if logging is not None else {},
            tracing_config=_tracing_options(tracing) if tracing is not None else {},
            controller_env=dict(controller.runtime_env.env_vars),
            **{f"http_{name}": value for name, value in options.items()},
            **job.resources,
        )
        node = spawn_node(config)
        try:
            return cls(node, node.controller_address, http, logging, grpc, tracing=tracing)
        except BaseException:
            node.close()
            raise

    @property
    def is_mine(self) -> bool:
        """Whether this very process has started it; a fork of the driver has not."""
        return self._node is not None and self._pid == os.getpid()

    @property
    def is_alive(self) -> bool:
        if self.places is not None:
            return is_running(self.places)
        return self._node is None or self._node.is_alive()

    @property
    def last_words(self) -> str:
        """Why a dead node has died, as far as its log tells."""
        return (
            ""
            if self._node is None
            else f"Its log: {self._node.logs_dir}/node.log\n{self._node.last_words()}"
        )

    def warn_about_differences(self, http: HTTPOptions, grpc: gRPCOptions, tracing: TracingConfig) -> None:
        """Of options that somebody wants of an instance which runs already."""
        pairs = ("HTTP", http, self.http), ("gRPC", grpc, self.grpc), ("tracing", tracing, self.tracing)
        for kind, wanted, given in pairs:
            differing = [
                name
                for name in wanted.model_fields_set
                # An instance of `eagleray start` has options of its own, whatever they are.
                if self.places is not None or getattr(wanted, name) != getattr(given, name)
            ]
            if differing:
                logger.warning(
                    "Eagleray is running already; these %s options differ and are ignored: %s.",
                    kind,
                    ", ".join(sorted(differing)),
                )

    def stop(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """Ends the instance in order; returns when no process, thread or socket of it is left."""
        try:
            if self._node is not None and self._node.is_alive():
                self.runtime.request("shutdown", Empty(), Empty, timeout_s=timeout_s).result(timeout_s + 1.0)
        except (EaglerayError, TimeoutError):
            pass  # the controller does not answer: node ends what is left
        finally:
            self._thread.close()
            if self._node is not None:
                self._node.close()


class _Driver:
    """The instance of this process, if any: `serve.run` is process-wide by nature."""

    __slots__ = ("instance",)

    def __init__(self) -> None:
        self.instance: Instance | None = None


_driver = _Driver()


def running() -> Instance | None:
    """The instance that this process has started or attached to, or can attach to; None when there is none.

    It attaches to the one that EAGLERAY_RUNTIME_DIR names, or else to that of `eagleray start` while it runs, unless
    EAGLERAY_ATTACH is 0.

    One that has died under our hands is cleaned away.
    """
    instance = _driver.instance
    if instance is not None and not instance.is_alive:
        forget()
        instance.stop()
        instance = None
    if instance is None and context.process.runtime is None:
        settings = Settings.from_env()
        if settings.runtime_dir:
            attach()
        elif settings.attach and not settings.local_testing_mode and (places := find_running(settings)):
            _driver.instance = Instance(None, places.address, HTTPOptions(), None, places=places)
    return _driver.instance


def start(
    http: HTTPOptions,
    logging: LoggingConfig | None = None,
    controller: ControllerOptions | None = None,
    grpc: gRPCOptions | None = None,
    tracing: TracingConfig | None = None,
) -> Instance:
    """Starts an instance of this process, which has none yet."""
    _driver.instance = instance = Instance.start(
        http, logging, controller or ControllerOptions(), grpc or gRPCOptions(), tracing
    )
    atexit.register(_at_exit)
    return instance


def _tracing_options(tracing: TracingConfig) -> dict[str, Any]:
    """The fields that were given, and where their exporter is imported from."""
    return {**tracing.model_dump(mode="json", exclude_unset=True), "sys_path": user_path()}


def attach() -> Runtime:
    """Connects to the instance that EAGLERAY_RUNTIME_DIR names. NotRunningError without one."""
    directory = Settings.from_env().runtime_dir
    if not directory or not os.path.exists(f"{directory}/controller.sock"):
        raise NotRunningError("Eagleray is not running: call `serve.start()` or `serve.run(...)` first.")
    _driver.instance = instance = Instance(None, f"unix:{directory}/controller.sock", HTTPOptions(), None)
    return instance.runtime


def forget() -> Instance | None:
    """This process has no instance any more; the caller stops the one that it had."""
    instance, _driver.instance = _driver.instance, None
    if instance is not None:
        atexit.unregister(_at_exit)
        if context.process.runtime is instance.runtime:
            context.process.runtime = None
    return instance


@contextmanager
def blocking(runtime: Runtime) -> Iterator[Runtime]:
    """A runtime that this thread may wait for: `runtime` itself, unless it lives on this very thread.

    In a replica it does: the user's coroutines and handle calls share a loop, and waiting there would stop both.
    """
    if not runtime.is_here:
        yield runtime
        return
    thread = RuntimeThread(runtime.address, "request")
    try:
        yield thread.runtime
    finally:
        thread.close()


def _at_exit() -> None:
    instance = forget()
    if instance is not None and instance.is_mine:
        instance.stop()


def _after_fork() -> None:
    """A fork of the driver has neither its threads nor its instance."""
    _driver.instance = None
    context.process.runtime = None


os.register_at_fork(after_in_child=_after_fork)
