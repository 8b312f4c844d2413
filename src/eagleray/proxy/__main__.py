"""The HTTP proxy's process: joins listener, server, router and table subscription, and answers the controller.

Node forks it with two listening sockets: its own, on which the controller asks `ready`, `check_health` and `drain`,
and the HTTP one, which outlives it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any

from eagleray.base.access_log import AccessLog
from eagleray.base.metrics import Registry
from eagleray.base.process import Child, run_child
from eagleray.base.settings import Settings
from eagleray.http.connections import Connections
from eagleray.http.limits import HttpLimits
from eagleray.http.listen import Listener, tls_context
from eagleray.proxy.observing import Observing
from eagleray.proxy.process import FollowedRouter, ProxyLogs, feed_of, serve_proxy, tracer_of
from eagleray.proxy.server import ProxyServer
from eagleray.routing import Subscription
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming
from eagleray.rpc.unix import directory_of
from eagleray.wire.control import Drain, Empty, Health, ProxyLaunch, Ready, decode


class Proxy:
    """The parts of one proxy process, in the order in which they come and go."""

    def __init__(self, launch: ProxyLaunch, http_listener: socket.socket, proxy_logs: ProxyLogs) -> None:
        options: dict[str, Any] = launch.http_options
        self._stopped = asyncio.Event()
        self._serving = asyncio.Event()
        self._error = ""
        settings = Settings.from_env()
        self.registry = Registry(enabled=settings.metrics)
        self._tracer = tracer_of(launch, self.registry, proxy_logs.path)
        self.router = FollowedRouter(
            eager_ingress=True,
            directory=directory_of(launch.controller_address),
            registry=self.registry,
            origin=("PROXY", launch.proxy_id),
        )
        self.subscription = Subscription(self.router, launch.controller_address, launch.proxy_id)
        self.connections = Connections(HttpLimits.from_options(options))
        self.server = ProxyServer(
            self.router,
            self.connections,
            root_path=options.get("root_path") or "",
            request_timeout_s=options.get("request_timeout_s"),
            access_log=proxy_logs.access_log,
            observing=Observing.of(self._tracer, settings.server_timing),
        )
        self.router.on_update = self.server.update
        self._http_listener = http_listener
        self._logs = proxy_logs
        self.listener = Listener(http_listener, self.server.connection, tls=tls_context(options))
        self.connections.on_discard = self.listener.on_descriptor_freed
        self._feed = feed_of(self.registry, launch.proxy_id)
        self.methods = ControlMethods(
            {
                "ready": self._ready,
                "check_health": self._check_health,
                "drain": self._drain,
                "reconfigure": proxy_logs.reconfigure,
                "metrics": self._feed.follow,
            },
            name="proxy control",
        )
        proxy_logs.on_change = self._log_to

    def _log_to(self, access_log: AccessLog | None) -> None:
        self.server.access_log = access_log

    async def run(self) -> None:
        """Serves until it was drained or is cancelled."""
        try:
            await self.subscription.start()
            self.listener.start()
            self._serving.set()
            await self._stopped.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends everything that is under way. Idempotent."""
        await self.listener.close()
        self.connections.close()
        await self.subscription.close()
        await self.router.close()
        self._logs.flush()
        if self._tracer is not None:
            self._tracer.close()

    async def _ready(self, payload: bytes, incoming: Incoming) -> Ready:
        await self._serving.wait()
        return Ready(pid=os.getpid())

    async def _check_health(self, payload: bytes, incoming: Incoming) -> Health:
        return Health(ongoing=self.server.ongoing)

    async def _drain(self, payload: bytes, incoming: Incoming) -> Empty:
        timeout_s = decode(payload, Drain).timeout_s
        until = time.monotonic() + timeout_s
        await self.listener.finish(timeout_s)
        self._http_listener.close()  # where node has let go of it too, clients that come now are refused
        await self.connections.drain(max(until - time.monotonic(), 0.0))
        self._feed.flush()
        self._stopped.set()
        return Empty()


def main(child: Child) -> None:
    """Runs the proxy of `child`, whose payload is a `ProxyLaunch`, until it is stopped."""
    run_child(child, lambda: _run(child))


async def _run(child: Child) -> None:
    launch = decode(child.payload, ProxyLaunch)
    assert child.http_listener is not None
    listener = child.http_listener
    await serve_proxy(child, launch, lambda proxy_logs: Proxy(launch, listener, proxy_logs))
