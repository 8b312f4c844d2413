"""The gRPC server: one handler for each RPC that the users' servicer functions know, all of which go to the router.

The only module that imports gRPC, but for the messages of its health service. It knows the last routing table and
nothing else; with the controller gone it goes on. Messages are not parsed here, so no generated class of a user runs in
this process but to be registered.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from eagleray.base.access_log import AccessLog
from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.proxy.deadlines import Deadlines
from eagleray.proxy.grpc.built_in import BUILT_IN_SERVICE, healthz_response, list_applications_response
from eagleray.proxy.grpc.endpoint import Endpoint, Floor
from eagleray.proxy.grpc.health import Health
from eagleray.routing import Router, RoutingTable
from eagleray.rpc.tcp import why_not_bound
from eagleray.serve.servicers import Rpc

_UNAVAILABLE = 14


class BindError(EaglerayError):
    """The port cannot be listened on; the message says why and what to do."""


class GrpcServer:
    """Listens from `start` to `stop`. `options` are those of `gRPCOptions`, all of them."""

    def __init__(
        self, router: Router, rpcs: dict[str, Rpc], options: dict[str, Any], access_log: AccessLog | None
    ) -> None:
        self._options = options
        self._tasks = Tasks("grpc proxy")
        self._health = Health({rpc.service for rpc in rpcs.values()})
        limit = int(options["max_message_bytes"])
        self.floor = Floor(
            router,
            Deadlines(),
            self._tasks,
            access_log,
            float(options["request_timeout_s"] or 0.0),
            limit,
            grpc.aio.EOF,
        )
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it unseen
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
            )
        )
        self._register(rpcs)

    # ---- services --------------------------------------------------------------------------------------------

    def _register(self, rpcs: dict[str, Rpc]) -> None:
        services: dict[str, dict[str, Any]] = defaultdict(dict)
        for rpc in rpcs.values():
            services[rpc.service][rpc.method] = self._handler(rpc)
        names = list(services)
        services.setdefault(
            BUILT_IN_SERVICE,
            {
                "ListApplications": grpc.unary_unary_rpc_method_handler(self._list_applications),
                "Healthz": grpc.unary_unary_rpc_method_handler(self._healthz),
            },
        )
        for name, handlers in services.items():
            generic = grpc.method_handlers_generic_handler(name, handlers)
            self._server.add_generic_rpc_handlers((generic,))
            self._server.add_registered_method_handlers(name, handlers)
        if health.SERVICE_NAME not in services:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._options["enable_reflection"] and reflection.SERVICE_NAME not in services:
            shown = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(tuple(dict.fromkeys(shown)), self._server)

    def _handler(self, rpc: Rpc) -> Any:
        endpoint = Endpoint(self.floor, rpc)
        if rpc.client_streaming:
            if rpc.server_streaming:
                return grpc.stream_stream_rpc_method_handler(endpoint.stream_stream)
            return grpc.stream_unary_rpc_method_handler(endpoint.stream_unary)
        if rpc.server_streaming:
            return grpc.unary_stream_rpc_method_handler(endpoint.unary_stream)
        return grpc.unary_unary_rpc_method_handler(endpoint.unary_unary)

    async def _list_applications(self, request: bytes, context: Any) -> bytes:
        self._tell_ready(context, "ListApplications")
        return list_applications_response(self.floor.applications)

    async def _healthz(self, request: bytes, context: Any) -> bytes:
        reason = self._tell_ready(context, "Healthz")
        return healthz_response(reason or "success")

    def _tell_ready(self, context: Any, method: str) -> str:
        reason = self.floor.not_ready()
        code = _UNAVAILABLE if reason else 0
        self.floor.count(f"/{BUILT_IN_SERVICE}/{method}", "", code, "", 0.0)
        if reason:
            context.set_code(_UNAVAILABLE)
            context.set_details(reason)
        return reason

    # ---- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Binds and serves. Raises BindError."""
        host, port = str(self._options["host"]), int(self._options["port"])
        if reason := why_not_bound(host, port):
            raise BindError(reason)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise BindError(f"Failed to bind to address '{address}'. {error}") from error
        await self._server.start()
        self.update(self.floor.router.table)

    def update(self, table: RoutingTable) -> None:
        """A newer routing table is in force."""
        self.floor.learn(table)
        self._health.tell(not self.floor.not_ready())

    async def stop(self, grace_s: float) -> None:
        """Takes no more RPCs, lets those under way end within `grace_s`, cancels the rest. Idempotent."""
        self.floor.draining = True
        self._health.close()
        await self._server.stop(grace_s)
        await self._tasks.close()
