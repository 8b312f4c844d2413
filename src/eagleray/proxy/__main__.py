"""The HTTP proxy's process: joins listener, server, router and table subscription, and answers the controller.

Node forks it with two listening sockets: its own, on which the controller asks `ready`, `check_health` and `drain`,
and the HTTP one, which outlives it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from typing import Any

from eagleray.base import logs
from eagleray.base.errors import EaglerayError
from eagleray.base.process import Child, run_child
from eagleray.base.settings import Settings
from eagleray.http.connections import Connections
from eagleray.http.limits import HttpLimits
from eagleray.http.listen import Listener, raise_descriptor_limit, tls_context
from eagleray.proxy.access import AccessLog
from eagleray.proxy.server import ProxyServer
from eagleray.routing import Router, Subscription
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming, Server
from eagleray.rpc.unix import directory_of
from eagleray.wire.control import Drain, Empty, Health, ProxyLaunch, Ready, decode
from eagleray.wire.messages import CallKind, ErrorHead

logger = logging.getLogger("eagleray.proxy")

_GC_THRESHOLD = 50_000
"""Objects between collections of the youngest generation: a request leaves no cycles, so collecting early is waste."""


class Proxy:
    """The parts of one proxy process, in the order in which they come and go."""

    def __init__(
        self, launch: ProxyLaunch, http_listener: socket.socket, access_log: AccessLog | None
    ) -> None:
        options: dict[str, Any] = launch.http_options
        self._stopped = asyncio.Event()
        self._serving = asyncio.Event()
        self._error = ""
        self.router = Router(eager_ingress=True, directory=directory_of(launch.controller_address))
        self.subscription = Subscription(self.router, launch.controller_address, launch.proxy_id)
        self.connections = Connections(HttpLimits.from_options(options))
        self.server = ProxyServer(
            self.router,
            self.connections,
            root_path=options.get("root_path") or "",
            request_timeout_s=options.get("request_timeout_s"),
            access_log=access_log,
        )
        self._access_log = access_log
        self.listener = Listener(http_listener, self.server.connection, tls=tls_context(options))
        self.connections.on_discard = self.listener.on_descriptor_freed
        self.methods = ControlMethods(
            {"ready": self._ready, "check_health": self._check_health, "drain": self._drain},
            name="proxy control",
        )

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
        if self._access_log is not None:
            self._access_log.flush()

    def dispatch(self, incoming: Incoming) -> None:
        """Takes a call on the proxy's own socket, where only the controller calls."""
        if incoming.head.kind == CallKind.CONTROL:
            self.methods.dispatch(incoming)
        else:
            incoming.fail(ErrorHead("internal", "A proxy answers control calls only."))

    async def _ready(self, payload: bytes, incoming: Incoming) -> Ready:
        await self._serving.wait()
        return Ready(pid=os.getpid())

    async def _check_health(self, payload: bytes, incoming: Incoming) -> Health:
        return Health(ongoing=self.server.ongoing)

    async def _drain(self, payload: bytes, incoming: Incoming) -> Empty:
        self.listener.stop()
        await self.connections.drain(decode(payload, Drain).timeout_s)
        self._stopped.set()
        return Empty()


def main(child: Child) -> None:
    """Runs the proxy of `child`, whose payload is a `ProxyLaunch`, until it is stopped."""
    run_child(child, lambda: _run(child))


async def _run(child: Child) -> None:
    launch = decode(child.payload, ProxyLaunch)
    logging_config = launch.logging_config
    logs.setup(
        "proxy",
        launch.proxy_id,
        path=child.log_path,
        level=logging_config.get("log_level") or "INFO",
        owns_stdio=bool(child.log_path),
    )
    raise_descriptor_limit()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
    assert child.listener is not None
    failure: EaglerayError | None = None
    proxy: Proxy | None = None
    try:
        assert child.http_listener is not None
        proxy = Proxy(launch, child.http_listener, _access_log(launch))
    except EaglerayError as error:
        logger.error("The proxy cannot start: %s", error)
        failure = error
    methods = proxy.methods if proxy is not None else ControlMethods({"ready": _refuse_ready(failure)})
    control = Server(proxy.dispatch if proxy is not None else methods.dispatch)
    await control.start(child.listener)
    try:
        if proxy is not None:
            await proxy.run()
        else:
            await asyncio.get_running_loop().create_future()
    finally:
        await methods.close()
        await control.close()


def _refuse_ready(error: EaglerayError | None) -> Any:
    async def ready(payload: bytes, incoming: Incoming) -> Ready:
        return Ready(error=str(error), pid=os.getpid())

    return ready


def _access_log(launch: ProxyLaunch) -> AccessLog | None:
    if not launch.logging_config.get("enable_access_log", True):
        return None
    settings = Settings.from_env()
    origin = f"proxy {launch.proxy_id}"
    return AccessLog(
        logging.getLogger("eagleray.proxy.access").info, origin, client_address=settings.log_client_address
    )
