"""What the processes of both proxies have in common: logs, the control socket, and telling why one cannot start."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable
from typing import Protocol

from eagleray.base import logs
from eagleray.base.access_log import AccessLog
from eagleray.base.errors import EaglerayError
from eagleray.base.loop_lag import LoopLag
from eagleray.base.metrics import Registry
from eagleray.base.process import Child
from eagleray.base.spans import Tracer, open_tracer
from eagleray.http.listen import raise_descriptor_limit
from eagleray.routing import Router, RoutingTable
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.feed import MetricsFeed
from eagleray.rpc.server import Incoming, Server
from eagleray.wire.control import GrpcProxyLaunch, ProxyLaunch, Ready, Reconfigure, decode
from eagleray.wire.messages import CallKind, ErrorHead

logger = logging.getLogger("eagleray.proxy")

_GC_THRESHOLD = 50_000
"""Objects between collections of the youngest generation: a request leaves no cycles, so collecting early is waste."""


class FollowedRouter(Router):
    """A router that tells when there is a new table."""

    on_update: Callable[[RoutingTable], None]

    def update(self, table: RoutingTable) -> None:
        super().update(table)
        self.on_update(table)


class ProxyLogs:
    """The logs of this process; `on_change` is told of another access log, None where there is none any more."""

    def __init__(self, launch: ProxyLaunch | GrpcProxyLaunch, path: str) -> None:
        self.path = path
        self._component = logs.Component("proxy", launch.proxy_id)
        options = logs.LogOptions.read(launch.logging_config)
        logs.setup(self._component, options, path=path, owns_stdio=bool(path))
        self.access_log = logs.open_access_log(self._component, options)
        self.on_change: Callable[[AccessLog | None], object] = lambda _log: None

    async def reconfigure(self, payload: bytes, incoming: Incoming) -> Ready:
        """A control method: another logging_config, from now on and in the same file."""
        config = decode(payload, Reconfigure).logging_config
        if config is not None:
            self.flush()
            options = logs.LogOptions.read(config)
            logs.adjust(self._component, options)
            self.access_log = logs.open_access_log(self._component, options)
            self.on_change(self.access_log)
        return Ready(pid=os.getpid())

    def flush(self) -> None:
        """Writes what is still to be written of the access log."""
        if self.access_log is not None:
            self.access_log.flush()


class ProxyParts(Protocol):
    """A proxy that was made: `methods` answer the controller; `run` serves until it was drained or is cancelled."""

    methods: ControlMethods

    async def run(self) -> None: ...


async def serve_proxy(
    child: Child, launch: ProxyLaunch | GrpcProxyLaunch, make: Callable[[ProxyLogs], ProxyParts]
) -> None:
    """Runs what `make` gives, and answers on the control socket, also when it has raised EaglerayError."""
    proxy_logs = ProxyLogs(launch, child.log_path)
    raise_descriptor_limit()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
    assert child.listener is not None
    proxy: ProxyParts | None = None
    try:
        proxy = make(proxy_logs)
        methods = proxy.methods
    except EaglerayError as error:
        logger.error("The proxy cannot start: %s", error)
        methods = _refusing(str(error))
    control = Server(lambda incoming: _dispatch(methods, incoming))
    await control.start(child.listener)
    try:
        if proxy is not None:
            await proxy.run()
        else:
            await asyncio.get_running_loop().create_future()
    finally:
        await methods.close()
        await control.close()


def tracer_of(launch: ProxyLaunch | GrpcProxyLaunch, registry: Registry, log_path: str) -> Tracer | None:
    """What makes the proxy's spans; None where tracing is off."""
    directory = os.path.dirname(log_path)
    return open_tracer(launch.tracing_config, "proxy", launch.proxy_id, directory, registry)


def feed_of(registry: Registry, proxy_id: str) -> MetricsFeed:
    """What tells the controller of a proxy's metrics."""
    lag = LoopLag(registry, "proxy", "main", proxy_id)
    return MetricsFeed(registry, on_look=lambda late_s, is_busy: lag.note(late_s * 1000.0, is_busy))


def _dispatch(methods: ControlMethods, incoming: Incoming) -> None:
    """Takes a call on the proxy's own socket, where only the controller calls."""
    if incoming.head.kind == CallKind.CONTROL:
        methods.dispatch(incoming)
    else:
        incoming.fail(ErrorHead("internal", "A proxy answers control calls only."))


def _refusing(problem: str) -> ControlMethods:
    async def ready(payload: bytes, incoming: Incoming) -> Ready:
        return Ready(error=problem, pid=os.getpid())

    return ControlMethods({"ready": ready})
