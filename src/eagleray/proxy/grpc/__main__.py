"""The gRPC proxy's process: joins server, router and table subscription, and answers the controller.

Node forks it like the HTTP proxy, but it binds its port itself, because grpc can be given no socket. gRPC is imported
here after the fork only: node and the other children stay without it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

from eagleray.base.access_log import AccessLog
from eagleray.base.errors import EaglerayError
from eagleray.base.metrics import Registry
from eagleray.base.process import Child, run_child
from eagleray.base.settings import Settings, set_default
from eagleray.proxy.process import FollowedRouter, ProxyLogs, feed_of, serve_proxy, tracer_of
from eagleray.routing import Subscription
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming
from eagleray.serve.servicers import Rpc, record, require_grpc
from eagleray.wire.control import Drain, Empty, GrpcProxyLaunch, Health, Ready, decode

logger = logging.getLogger("eagleray.proxy")

_EXPERIMENTS = "-event_engine_listener,-event_engine_client"
"""gRPC's older polling, for servers in Python: with its event engine on, threads that hand each event on cost a quarter
of the throughput (grpcio 1.85). A setting of the user's comes first; a version without these names ignores them."""

_END_GRACE_S = 0.5
"""For RPCs under way at SIGTERM: node kills after 1 s."""


class GrpcProxy:
    """The parts of one proxy process, in the order in which they come and go. Raises EaglerayError."""

    def __init__(self, launch: GrpcProxyLaunch, proxy_logs: ProxyLogs) -> None:
        options: dict[str, Any] = launch.grpc_options
        set_default("GRPC_EXPERIMENTS", _EXPERIMENTS)
        rpcs = _recorded(options)
        from eagleray.proxy.grpc.server import GrpcServer  # an optional dependency, and only after the fork

        self._stopped = asyncio.Event()
        self._started = asyncio.Event()
        self._error = ""
        self._logs = proxy_logs
        self.registry = Registry(enabled=Settings.from_env().metrics)
        self.router = FollowedRouter(
            eager_ingress=True, registry=self.registry, origin=("PROXY", launch.proxy_id)
        )
        self.server = GrpcServer(self.router, rpcs, options, proxy_logs.access_log)
        self.server.floor.tracer = self._tracer = tracer_of(launch, self.registry, proxy_logs.path)
        self.router.on_update = self.server.update
        self.subscription = Subscription(self.router, launch.controller_address, launch.proxy_id)
        self._feed = feed_of(self.registry, launch.proxy_id)
        self.methods = ControlMethods(
            {
                "ready": self._ready,
                "check_health": self._check_health,
                "drain": self._drain,
                "reconfigure": proxy_logs.reconfigure,
                "metrics": self._feed.follow,
            },
            name="grpc proxy control",
        )
        proxy_logs.on_change = self._log_to

    def _log_to(self, access_log: AccessLog | None) -> None:
        self.server.floor.access_log = access_log

    async def run(self) -> None:
        """Serves until it was drained or is cancelled."""
        try:
            await self.subscription.start()
            try:
                await self.server.start()
            except EaglerayError as error:
                logger.error("The gRPC proxy cannot start: %s", error)
                self._error = str(error)
            self._started.set()
            await self._stopped.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends everything that is under way. Idempotent."""
        await self.server.stop(_END_GRACE_S)
        await self.subscription.close()
        await self.router.close()
        self._logs.flush()
        if self._tracer is not None:
            self._tracer.close()

    async def _ready(self, payload: bytes, incoming: Incoming) -> Ready:
        await self._started.wait()
        return Ready(error=self._error, pid=os.getpid())

    async def _check_health(self, payload: bytes, incoming: Incoming) -> Health:
        return Health(ongoing=self.server.floor.ongoing)

    async def _drain(self, payload: bytes, incoming: Incoming) -> Empty:
        await self.server.stop(decode(payload, Drain).timeout_s)
        self._feed.flush()
        self._stopped.set()
        return Empty()


def main(child: Child) -> None:
    """Runs the proxy of `child`, whose payload is a `GrpcProxyLaunch`, until it is stopped."""
    run_child(child, lambda: _run(child))


async def _run(child: Child) -> None:
    launch = decode(child.payload, GrpcProxyLaunch)
    await serve_proxy(child, launch, lambda proxy_logs: GrpcProxy(launch, proxy_logs))


def _recorded(options: dict[str, Any]) -> dict[str, Rpc]:
    """The users' RPCs. Their modules are generated code, but whatever they raise is told to who has started us."""
    try:
        require_grpc()
        for entry in reversed(options.get("sys_path") or []):
            if entry not in sys.path:
                sys.path.insert(0, entry)
        return record(options["grpc_servicer_functions"])
    except Exception as error:  # user code
        raise EaglerayError(f"{type(error).__name__}: {error}") from error
