"""One RPC of a service as grpc.aio calls it: four coroutines, of which each endpoint uses the one of its kind.

A coroutine opens an exchange, waits for what becomes of it, and hands it to the `ServicerContext`. When the client
cancels or its deadline passes, grpc.aio cancels the coroutine, and that cancels the call in the replica. Duck-typed
contexts: gRPC itself is not imported.
"""

from __future__ import annotations

import asyncio
import logging
import math
from time import monotonic
from typing import Any

from eagleray.base.access_log import AccessLog
from eagleray.base.ids import new_request_id
from eagleray.base.spans import Tracer
from eagleray.base.tasks import Tasks
from eagleray.base.tracing import context_of_metadata
from eagleray.proxy.deadlines import Deadlines
from eagleray.proxy.grpc.exchange import RpcExchange, StreamAnswer, UnaryAnswer, UnaryReply, Upload
from eagleray.proxy.metrics import ProxyMetrics
from eagleray.proxy.observing import watch_rpc
from eagleray.routing import Route, Router, RoutingTable
from eagleray.serve.servicers import Rpc, name_of
from eagleray.wire.messages import (
    GRPC_MESSAGE,
    CallHead,
    CallKind,
    GrpcHead,
    GrpcStatus,
    decode_grpc_status,
)

logger = logging.getLogger("eagleray.proxy")

_MESSAGE = GRPC_MESSAGE[0]
_CANCELLED, _NOT_FOUND = 1, 5
_FOREVER_S = 1e9
"""Time-outs from here on (30 years, infinity) are none."""
_NOT_POPULATED = "Route table is not populated yet."
_DRAINING = "This node is being drained."
_PING = "Ping /ray.serve.RayServeAPIService/ListApplications for available applications."

_KNOWN = {
    "application": 0,
    "request_id": 1,
    "x-request-id": 1,
    "multiplexed_model_id": 2,
    "serve_multiplexed_model_id": 2,
    "session_id": 3,
    "x-session-id": 3,
    "traceparent": 4,
    "x-request-timeout-seconds": 5,
}
"""Metadata that steers the proxy -> which field of the call it is."""

_NAMES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""Names of the status codes by number."""
_CODES = tuple(f"StatusCode.{name}" for name in _NAMES)
"""What Ray Serve's metrics call them."""

_OUR_FAULT = frozenset(
    (2, 4, 12, 13, 14, 15)
)  # UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL and so on


class Floor:
    """What all endpoints of a proxy share. `request_timeout_s` 0: none; `limit`: bytes of a message.

    `end_of_requests` is what `ServicerContext.read` returns behind the last message.
    """

    def __init__(
        self,
        router: Router,
        deadlines: Deadlines,
        tasks: Tasks,
        access_log: AccessLog | None,
        request_timeout_s: float,
        limit: int,
        end_of_requests: object,
    ) -> None:
        self.router = router
        self.deadlines = deadlines
        self.tasks = tasks
        self.access_log = access_log
        self.metrics: ProxyMetrics | None = None
        if router.registry.enabled:
            self.metrics = ProxyMetrics(router.registry, "grpc", lambda: self.ongoing)
            router.on_forgotten = self.metrics.forget
        self.tracer: Tracer | None = None
        self.request_timeout_s = request_timeout_s
        self.limit = limit
        self.end_of_requests = end_of_requests
        self.loop = asyncio.get_running_loop()
        self.applications: dict[str, Route] = {}
        self.ongoing = 0
        self.draining = False

    def learn(self, table: RoutingTable) -> None:
        """As over HTTP, applications without a route are not to be reached."""
        self.applications = {route.app: route for route in table.routes}

    def not_ready(self) -> str:
        """Why clients should go elsewhere; empty when they should not."""
        table = self.router.table
        if self.draining or table.leaving:
            return _DRAINING
        return "" if table.populated or table.routes else _NOT_POPULATED

    def count(self, method: str, route: str, code: int, key: str, seconds: float) -> None:
        """An RPC has ended, `seconds` after it came. The route of an RPC is the name of its application."""
        if self.metrics is not None:
            self.metrics.finished((method, route, "", _CODES[code], key), seconds)

    def route_of(self, application: str) -> Route | GrpcStatus:
        """The route of an application, or why there is none. The only application needs no name."""
        applications = self.applications
        if application:
            route = applications.get(application)
            if route is None:
                return GrpcStatus(_NOT_FOUND, f"Application '{application}' not found. {_PING}")
            return route
        if len(applications) == 1:
            return next(iter(applications.values()))
        return GrpcStatus(_NOT_FOUND, f"Application metadata not set. {_PING}")


_GONE = GrpcStatus(_CANCELLED)
"""How an RPC ends whose client has cancelled it or waits no longer."""


class Endpoint:
    """Serves one RPC. `context` is the `grpc.aio.ServicerContext` of a call of it."""

    def __init__(self, floor: Floor, rpc: Rpc) -> None:
        self._floor = floor
        self._rpc = rpc
        self._deserializer = name_of(rpc)

    # ---- the four kinds --------------------------------------------------------------------------------------

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        opened = self._open(context)
        if isinstance(opened, GrpcStatus):
            return _refuse(context, opened)
        route, head, timeout_s = opened
        reply: UnaryReply = self._floor.loop.create_future()
        exchange = UnaryAnswer(route.deployment, head, request, True, reply, self._floor.limit)
        self._submit(exchange, timeout_s)
        return await self._answer(exchange, reply, context)

    async def stream_unary(self, requests: object, context: Any) -> bytes:
        opened = self._open(context)
        if isinstance(opened, GrpcStatus):
            return _refuse(context, opened)
        route, head, timeout_s = opened
        reply: UnaryReply = self._floor.loop.create_future()
        exchange = UnaryAnswer(route.deployment, head, b"", False, reply, self._floor.limit)
        reading = self._read(exchange, context)
        self._submit(exchange, timeout_s)
        try:
            return await self._answer(exchange, reply, context)
        finally:
            await _stop(reading)

    async def _answer(self, exchange: UnaryAnswer, reply: UnaryReply, context: Any) -> bytes:
        status: GrpcStatus | None = _GONE
        try:
            status, body = await reply
        finally:
            self._leave(exchange, status)
        if status is not None:
            await _compress(context, status)
            _conclude(context, exchange.head.request_id, status)
        return body

    async def unary_stream(self, request: bytes, context: Any) -> None:
        opened = self._open(context)
        if isinstance(opened, GrpcStatus):
            _refuse(context, opened)
            return
        route, head, timeout_s = opened
        exchange = StreamAnswer(route.deployment, head, request, True)
        self._submit(exchange, timeout_s)
        await self._write(exchange, context)

    async def stream_stream(self, requests: object, context: Any) -> None:
        opened = self._open(context)
        if isinstance(opened, GrpcStatus):
            _refuse(context, opened)
            return
        route, head, timeout_s = opened
        exchange = StreamAnswer(route.deployment, head, b"", False)
        reading = self._read(exchange, context)
        self._submit(exchange, timeout_s)
        try:
            await self._write(exchange, context)
        finally:
            await _stop(reading)

    # ---- a call's way to the router ----------------------------------------------------------------------------

    def _open(self, context: Any) -> tuple[Route, CallHead, float] | GrpcStatus:
        """The route, the head of the call, and our own time-out; or why there is no call."""
        metadata = context.invocation_metadata()
        application = model_id = session_id = traceparent = request_id = ""
        floor, rpc = self._floor, self._rpc
        timeout_s = floor.request_timeout_s
        for key, value in metadata:
            place = _KNOWN.get(key)
            if place is None or type(value) is not str:
                continue
            if place == 0:
                application = value
            elif place == 1:
                request_id = value
            elif place == 2:
                model_id = value
            elif place == 3:
                session_id = value
            elif place == 4:
                traceparent = value
            else:
                timeout_s = _read_timeout(value, timeout_s)
        request_id = request_id or new_request_id()
        context.set_trailing_metadata((("request_id", request_id),))
        route = floor.route_of(application)
        if isinstance(route, GrpcStatus):
            floor.count(rpc.path, "", route.code, "", 0.0)
            return route
        # The client's own deadline needs no timer of ours: gRPC cancels the RPC at both ends.
        left_s = context.time_remaining()
        if left_s is None or 0 < timeout_s < left_s:
            left_s = timeout_s
        head = CallHead(
            CallKind.GRPC,
            rpc.path,
            request_id,
            monotonic() + left_s if left_s > 0 else 0.0,
            route.app,
            route.prefix,
            rpc.server_streaming,
            model_id,
            session_id,
            context_of_metadata(metadata) if traceparent else "",
        )
        head.grpc = GrpcHead(self._deserializer, rpc.client_streaming, metadata, context.peer())
        return route, head, timeout_s

    def _submit(self, exchange: RpcExchange, timeout_s: float) -> None:
        floor = self._floor
        floor.ongoing += 1
        if timeout_s > 0:
            exchange.set_timeout(timeout_s, floor.deadlines)
        if floor.tracer is not None:
            exchange.watch = watch_rpc(floor.tracer, exchange)
        floor.router.submit(exchange)

    def _leave(self, exchange: RpcExchange, status: GrpcStatus | None) -> None:
        floor = self._floor
        floor.ongoing -= 1
        exchange.leave()
        code = 0 if status is None else status.code
        now = monotonic()
        took_s = now - exchange.started_at
        floor.count(self._rpc.path, exchange.head.app, code, exchange.key, took_s)
        if exchange.watch is not None:
            exchange.watch.rpc_ended(exchange, code, _NAMES[code], took_s, floor.metrics)
        if floor.access_log is not None:
            head = exchange.head
            floor.access_log.add(self._rpc.path, head.app, _NAMES[code], exchange.started_at, now, head)

    # ---- streams ---------------------------------------------------------------------------------------------

    async def _write(self, exchange: StreamAnswer, context: Any) -> None:
        """Passes the answer's messages on, as fast as the client takes them; then the status."""
        status: GrpcStatus | None = _GONE
        try:
            status = await self._write_all(exchange, context)
        finally:
            self._leave(exchange, status)
        if status is not None:
            _conclude(context, exchange.head.request_id, status)

    async def _write_all(self, exchange: StreamAnswer, context: Any) -> GrpcStatus | None:
        messages = exchange.messages
        told: GrpcStatus | None = None
        while messages or not exchange.ended:
            if not messages:
                exchange.changed.clear()
                await exchange.changed.wait()
                continue
            message = messages.popleft()
            kind = message[0]
            if kind == _MESSAGE:
                if exchange.compression >= 0:
                    context.set_compression(exchange.compression)
                    exchange.compression = -1
                await context.write(message[1:])
            else:
                told = decode_grpc_status(message[1:])
            exchange.consumed(len(message))
        return exchange.status or told

    def _read(self, exchange: RpcExchange, context: Any) -> asyncio.Task[None]:
        name = f"requests of {exchange.head.request_id}"
        return self._floor.tasks.start(
            _read(Upload(exchange), context, self._floor.end_of_requests), name=name
        )


async def _read(upload: Upload, context: Any, end_of_requests: object) -> None:
    """A task's root: passes the client's messages on, as fast as the replica takes them."""
    await upload.writable.wait()
    while True:
        try:
            message = await context.read()
            if message is end_of_requests:
                await _settle_end(context)
        except (
            Exception
        ) as error:  # the RPC is ending, and grpc.aio has many ways to say so; its coroutine hears too
            logger.debug("a client stream ended: %r", error)
            return
        if message is end_of_requests:
            await upload.send(b"", end=True)
            return
        await upload.send(GRPC_MESSAGE + message)


async def _settle_end(context: Any) -> None:
    """Lets a cancel overtake: of one that is on its way grpc.aio first says that the requests have ended.

    An upload that was cut off must never look complete. The core handles the operations of a call in order, so when a
    second read has ended, a cancel has reached our loop; two turns later it has cancelled the RPC and this task.
    """
    await context.read()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def _stop(reading: asyncio.Task[None]) -> None:
    if not reading.done():
        reading.cancel()
        await asyncio.wait({reading})


# ---- what the client is told ------------------------------------------------------------------------------------


def _refuse(context: Any, status: GrpcStatus) -> bytes:
    context.set_code(status.code)
    context.set_details(status.details)
    return b""


async def _compress(context: Any, status: GrpcStatus) -> None:
    """Compresses a unary answer, if it is to be. grpc.aio does so only when its initial metadata is sent by hand."""
    if status.compression >= 0:
        context.set_compression(status.compression)
        await context.send_initial_metadata(())


def _conclude(context: Any, request_id: str, status: GrpcStatus) -> None:
    """Sets how the RPC ends; the request id is among the trailing metadata already."""
    if status.code:
        context.set_code(status.code)
    if status.details:
        context.set_details(status.details)
    if status.trailing:
        context.set_trailing_metadata((("request_id", request_id), *map(tuple, status.trailing)))


def _read_timeout(text: str, default_s: float) -> float:
    """As the HTTP header of this name: 0 or less means none, nonsense is ignored."""
    try:
        value = float(text)
    except ValueError:
        return default_s
    if math.isnan(value):
        return default_s
    return value if 0 < value < _FOREVER_S else 0.0
