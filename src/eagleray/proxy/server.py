"""The HTTP proxy's server: finds the route of each request, answers the built-in paths, hands the rest to the router.

It knows the last routing table and nothing else; with the controller gone it goes on. It must not wait, and must not
look into bodies.
"""

from __future__ import annotations

import logging
import math
from time import monotonic

import msgspec

from eagleray.base.access_log import AccessLog
from eagleray.base.ids import new_request_id
from eagleray.base.tracing import context_of
from eagleray.http.connection import HttpConnection
from eagleray.http.connections import Connections
from eagleray.http.request import Request
from eagleray.http.response import TEXT, BadResponseError
from eagleray.proxy.deadlines import Deadlines
from eagleray.proxy.exchange import Exchange
from eagleray.proxy.metrics import Key, ProxyMetrics
from eagleray.proxy.observing import NOT_TRACING, Observing
from eagleray.routing import Router, RoutingTable
from eagleray.wire.messages import CallHead, CallKind, Headers, HttpHead

logger = logging.getLogger("eagleray.proxy")

_JSON: Headers = [(b"content-type", b"application/json")]
_BUILT_IN = frozenset({"/-/healthz", "/-/routes"})
_SCHEMA = "/-/schema/"
_NOT_POPULATED = "Route table is not populated yet."
_DRAINING = "This node is being drained."
_FOREVER_S = 1e9
"""Timeouts from here on (30 years, infinity) are none."""


class ProxyServer:
    """The sink of all HTTP connections of one proxy. `access_log` is None where nobody wants one."""

    def __init__(
        self,
        router: Router,
        connections: Connections,
        *,
        root_path: str = "",
        request_timeout_s: float | None = None,
        access_log: AccessLog | None = None,
        observing: Observing | None = None,
    ) -> None:
        self.connections = connections
        self.deadlines = Deadlines()
        self.ongoing = 0
        self._router = router
        self._root_path = root_path.rstrip("/")
        self._raw_root_path = self._root_path.encode()
        self._request_timeout_s = request_timeout_s or 0.0
        self.access_log = access_log
        self._observing = observing
        self._metrics: ProxyMetrics | None = None
        if router.registry.enabled:
            self._metrics = ProxyMetrics(router.registry, "http", lambda: self.ongoing)
            router.on_forgotten = self._metrics.forget

    def connection(self) -> HttpConnection:
        """The protocol of a new client connection."""
        return HttpConnection(self, self.connections)

    # ---- RequestSink -----------------------------------------------------------------------------------------

    def begin(self, connection: HttpConnection, request: Request) -> Exchange | None:
        path, known = request.path, request.known
        request_id = known.get(b"x-request-id")
        if request_id:
            request_id_text = request_id.decode("latin-1")
        else:
            request_id_text = new_request_id()
            request_id = request_id_text.encode()
            request.headers.append((b"x-request-id", request_id))
        built_in = path.startswith("/-/") and (path in _BUILT_IN or path.startswith(_SCHEMA))
        route = None if built_in else self._router.matcher.match(path)
        if route is None:
            return self._answer_locally(connection, request, request_id)
        root_path = self._root_path
        http = HttpHead(
            request.method,
            root_path + path if root_path else path,
            self._raw_root_path + request.raw_path if root_path else request.raw_path,
            request.query_string,
            request.headers,
            "1.1" if request.http11 else "1.0",
            connection.scheme,
            root_path + route.prefix if route.prefix != "/" else root_path,
            connection.client,
            connection.server,
        )
        head = CallHead(CallKind.HTTP, "", request_id_text, 0.0, route.app, route.prefix)
        head.http = http
        if request.upgrade:
            return self._begin_websocket(connection, request, route.deployment, head, request_id)
        observing = self._observing
        if observing is None and b"x-eagleray-timing" not in known:
            exchange = Exchange(self, connection, request, route.deployment, head, request_id)
        else:
            observing = observing or NOT_TRACING
            exchange = observing.exchange(self, connection, request, route.deployment, head, request_id)
        self.ongoing += 1
        timeout_s = self._request_timeout_s
        if len(known) > 1:
            timeout_s = _apply_known(exchange, known, timeout_s)
        if timeout_s > 0:
            exchange.set_timeout(timeout_s)
        self._router.submit(exchange)
        return exchange

    def _begin_websocket(
        self, connection: HttpConnection, request: Request, key: str, head: CallHead, request_id: bytes
    ) -> Exchange | None:
        # Imported with the first WebSocket: the library costs a proxy that sees none memory and start-up time.
        from eagleray.proxy.websocket_exchange import open_websocket

        head.kind = CallKind.WEBSOCKET
        started_at = monotonic()
        exchange = open_websocket(
            self, connection, request, key, head, request_id, self._observing or NOT_TRACING
        )
        if isinstance(exchange, int):
            self.note(("WS", head.route, "", exchange, key), head, started_at, connection.client)
            return None
        self.ongoing += 1
        exchange.limit(_apply_known(exchange, request.known, self._request_timeout_s))
        self._router.submit(exchange)
        return exchange

    def submit(self, exchange: Exchange) -> None:
        """Looks for a replica anew."""
        self._router.submit(exchange)

    def refused(self, status: int) -> None:
        if self._metrics is not None:
            self._metrics.refused(status)
        if self.access_log is not None:
            now = monotonic()
            self.access_log.add("-", "", status, now, now, CallHead(CallKind.HTTP))

    # ---- built-in answers ------------------------------------------------------------------------------------

    def _answer_locally(
        self, connection: HttpConnection, request: Request, request_id: bytes
    ) -> Exchange | None:
        path = request.path
        if path.startswith(_SCHEMA):
            return self._describe(connection, request, request_id)
        started_at = monotonic()
        if path in _BUILT_IN:
            reason = self.not_ready()
            if self._metrics is not None:
                key = (request.method, path, "", 503 if reason else 200, "")
                self._metrics.finished(key, monotonic() - started_at)
            if reason:
                connection.respond(503, TEXT, reason.encode(), request_id)
            elif path == "/-/healthz":
                connection.respond(200, TEXT, b"success", request_id)
            else:
                routes = {route.prefix: route.app for route in self._router.table.routes}
                connection.respond(200, _JSON, msgspec.json.encode(routes), request_id)
            return None
        client = connection.client
        text = f"Path '{path}' not found. Ping http://.../-/routes for available routes."
        connection.respond(404, TEXT, text.encode("utf-8", "replace"), request_id)
        method = "WS" if request.upgrade else request.method
        head = CallHead(CallKind.HTTP, "", request_id.decode("latin-1"))
        self.note((method, "", "", 404, ""), head, started_at, client)
        return None

    def _describe(self, connection: HttpConnection, request: Request, request_id: bytes) -> Exchange | None:
        """Asks the ingress of an application for its OpenAPI document."""
        app = request.path.removeprefix(_SCHEMA)
        route = next((one for one in self._router.table.routes if one.app == app), None)
        if route is None or not request.complete:
            status, text = (
                (404, f"There is no application '{app}' with a route.")
                if route is None
                else (400, "No body.")
            )
            connection.respond(status, TEXT, text.encode("utf-8", "replace"), request_id)
            return None
        path = self._root_path + route.prefix if route.prefix != "/" else self._root_path or "/"
        # Without a route, so that it is not logged as traffic of the application.
        head = CallHead(CallKind.DESCRIBE, path, request_id.decode("latin-1"), 0.0, app)
        request.body = b""
        exchange = Exchange(self, connection, request, route.deployment, head, request_id)
        self.ongoing += 1
        if self._request_timeout_s > 0:
            exchange.set_timeout(self._request_timeout_s)
        self._router.submit(exchange)
        return exchange

    def update(self, table: RoutingTable) -> None:
        """A newer routing table is in force. Who leaves closes each connection after its next answer."""
        if table.leaving:
            self.connections.draining = True

    def not_ready(self) -> str:
        """Why clients should go elsewhere; empty when they should not."""
        if self.connections.draining:
            return _DRAINING
        table = self._router.table
        return "" if table.populated or table.routes else _NOT_POPULATED

    # ---- of exchanges ----------------------------------------------------------------------------------------

    def note(self, key: Key, head: CallHead, started_at: float, client: tuple[str, int] | None) -> None:
        """Counts and logs an answered request."""
        now = monotonic()
        if self._metrics is not None:
            self._metrics.finished(key, now - started_at)
        if self.access_log is not None:
            method, route, pattern, status, _ = key
            if pattern:
                route = route.rstrip("/") + pattern
            self.access_log.add(method, route, status, started_at, now, head, client)

    def exemplify(self, key: Key, trace_id: str, took_ms: float) -> None:
        """A request that has been counted under `key` can be looked up as a trace."""
        if self._metrics is not None:
            self._metrics.exemplify(key, trace_id, took_ms)

    def report_bad_response(self, head: CallHead, error: BadResponseError) -> None:
        """An application's answer could not be sent."""
        logger.error(
            "Request %s: application '%s' gave a bad response: %s.", head.request_id, head.app, error
        )


def _apply_known(exchange: Exchange, known: dict[bytes, bytes], timeout_s: float) -> float:
    """Headers that steer the proxy; returns the timeout in force (0: none)."""
    head = exchange.head
    model_id = known.get(b"serve-multiplexed-model-id")
    if model_id is not None:
        head.multiplexed_model_id = model_id.decode("latin-1")
    session_id = known.get(b"x-session-id")
    if session_id is not None:
        head.session_id = session_id.decode("latin-1")
    if b"traceparent" in known and not head.traceparent and head.http is not None:
        head.traceparent = context_of(head.http.headers)
    if known.get(b"x-request-disconnect-disabled") == b"?1":
        exchange.keep_running()
    wanted = known.get(b"x-request-timeout-seconds")
    if wanted is not None:
        try:
            value = float(wanted)
        except ValueError:
            return timeout_s
        if not math.isnan(value):
            return value if 0 < value < _FOREVER_S else 0.0
    return timeout_s
