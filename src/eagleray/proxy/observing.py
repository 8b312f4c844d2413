"""Exchanges that somebody watches: spans in a trace, and `Server-Timing` in the answer.

Who is not watched is served by the plain classes and pays nothing. The choice is made by `Observing.open`, before the
exchange is made. Spans: `proxy_http_request`, and below it `route_to_replica`, from the router until the end of the
answer, whose event `sent` says when a replica had been found. What clients have sent is no attribute of a span.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from eagleray.base.spans import Tracer, monotonic_to_wall_ns, passed_on
from eagleray.base.tracing import context_of, server_timing
from eagleray.proxy.exchange import Exchange
from eagleray.wire.messages import CallHead, Headers, ReplyHead

if TYPE_CHECKING:
    from eagleray.base.spans import Span
    from eagleray.http.connection import HttpConnection
    from eagleray.http.request import Request
    from eagleray.proxy.metrics import ProxyMetrics
    from eagleray.proxy.server import ProxyServer
    from eagleray.routing import RoutedCall

_TIMING = b"x-eagleray-timing"
_ERROR = 500
_BAD_CLOSE = 1011
"""A WebSocket's close code from which on the fault is ours."""

_RPC_FAULTS = frozenset((2, 4, 12, 13, 14, 15))
"""gRPC codes of what has failed on this side: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL and so on."""


class Observing:
    """What a proxy does beside serving. `tracer` is None where nothing is traced; `times_all` asks for no header."""

    def __init__(self, tracer: Tracer | None, times_all: bool = False) -> None:
        self.tracer = tracer
        self.times_all = times_all

    @classmethod
    def of(cls, tracer: Tracer | None, times_all: bool) -> Observing | None:
        """None where no request is watched unless it asks for that itself."""
        return cls(tracer, times_all) if tracer is not None or times_all else None

    def exchange(
        self,
        server: ProxyServer,
        connection: HttpConnection,
        request: Request,
        key: str,
        head: CallHead,
        request_id: bytes,
    ) -> Exchange:
        """The exchange of a request."""
        watch = self.open(head, request.headers, request.known)
        if watch is None:
            return Exchange(server, connection, request, key, head, request_id)
        exchange = WatchedExchange(server, connection, request, key, head, request_id)
        exchange.watch = watch
        watch.submitted(exchange)
        return exchange

    def open(self, head: CallHead, headers: Headers, known: Mapping[bytes, bytes]) -> Watch | None:
        """What is to be watched of a request, whose trace context becomes that of `head`; None: nothing."""
        span = None
        if self.tracer is not None:
            context = context_of(headers) if b"traceparent" in known else ""
            http = head.http
            method = http.method if http is not None else ""
            span = begin_request(self.tracer, "proxy_http_request", head, context, method)
        is_timed = self.times_all or known.get(_TIMING) == b"1"
        return Watch(self.tracer, span, is_timed) if span is not None or is_timed else None


NOT_TRACING = Observing(None)
"""For requests that ask for their times where nobody else asks anything."""


def begin_request(tracer: Tracer, name: str, head: CallHead, context: str, method: str) -> Span | None:
    """The span of a request that comes in with `context`; None when it is not recorded. `head` carries it on."""
    decided = tracer.decide(context)
    if decided is None:
        head.traceparent = passed_on(context)
        return None
    attributes = {
        "request_id": head.request_id,
        "application": head.app,
        "route": head.route,
        "method": method,
    }
    span = tracer.begin(name, decided, "SERVER", attributes)
    head.traceparent = tracer.text_of(span)
    return span


def watch_rpc(tracer: Tracer, call: RoutedCall) -> Watch | None:
    """What is to be watched of an RPC that is about to go to the router; None: nothing."""
    head = call.head
    span = begin_request(tracer, "proxy_grpc_request", head, head.traceparent, head.method)
    if span is None:
        return None
    watch = Watch(tracer, span)
    watch.submitted(call)
    return watch


class Watch:
    """What is watched of one request."""

    __slots__ = ("is_timed", "route_span", "span", "tracer")

    def __init__(self, tracer: Tracer | None, span: Span | None, is_timed: bool = False) -> None:
        self.tracer = tracer
        self.span = span
        self.is_timed = is_timed
        self.route_span: Span | None = None

    def submitted(self, call: RoutedCall) -> None:
        """The call is about to go to the router."""
        if self.tracer is None or self.span is None:
            return
        app, _, deployment = call.key.partition("#")
        attributes = {"request_id": call.head.request_id, "application": app, "deployment": deployment}
        self.route_span = span = self.tracer.below(self.span, "route_to_replica", "CLIENT", attributes)
        call.head.traceparent = self.tracer.text_of(span)

    def ended(self, call: RoutedCall, status: int | str, route: str, failed: bool) -> None:
        """The client has its answer."""
        tracer, span = self.tracer, self.span
        if tracer is None or span is None:
            return
        routing = self.route_span
        if routing is not None:
            if call.sent_at:
                routing.add_event("sent", timestamp=monotonic_to_wall_ns(call.sent_at))
            if call.target is not None:
                routing.set_attribute("replica", call.target.entry.replica_id)
            if failed:
                tracer.fail(routing)
            routing.end()
        span.set_attribute("route", route)
        span.set_attribute("status", status)
        if failed:
            tracer.fail(span)
        span.end()

    def rpc_ended(
        self, call: RoutedCall, code: int, name: str, seconds: float, metrics: ProxyMetrics | None
    ) -> None:
        """The RPC has ended with that gRPC code, and has been counted in `metrics`."""
        head = call.head
        self.ended(call, name, head.app, code in _RPC_FAULTS)
        if metrics is not None:
            key = (head.method, head.app, "", f"StatusCode.{name}", call.key)
            metrics.exemplify(key, self.trace_id, seconds * 1000.0)

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty when nothing is recorded."""
        return f"{self.span.get_span_context().trace_id:032x}" if self.span is not None else ""


class Watched(Exchange):
    """The part that exchanges of HTTP and of WebSockets share. `watch` is set before the exchange is submitted."""

    __slots__ = ()
    watch: Watch

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        if self.watch.is_timed:
            head.headers = [*head.headers, self._timing(head.took_us)]
        super().on_result(head, body, end)

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        if self.watch.is_timed:
            headers = [*headers, self._timing(0)]
        super()._answer(status, headers, body)

    def _timing(self, took_us: int) -> tuple[bytes, bytes]:
        return b"server-timing", server_timing(hops_of(self, self.came_at, took_us))

    def _done(self, status: int) -> None:
        is_first = self._connection is not None
        took_ms = (monotonic() - self.came_at) * 1000.0
        super()._done(status)
        watch = self.watch
        if not is_first or watch.span is None:
            return
        prefix, pattern = self.head.route, self._pattern
        failed = status >= _BAD_CLOSE if self.method == "WS" and status >= 1000 else status >= _ERROR
        watch.ended(self, status, prefix.rstrip("/") + pattern if pattern else prefix, failed)
        self._server.exemplify((self.method, prefix, pattern, status, self.key), watch.trace_id, took_ms)


class WatchedExchange(Watched):
    """An HTTP request that is watched."""

    __slots__ = ("watch",)


def hops_of(call: RoutedCall, started_at: float, took_us: int) -> dict[str, float]:
    """Milliseconds by hop until now: the same hops as those of the metric `eagleray_request_hop_ms`."""
    now, sent_at, since = monotonic(), call.sent_at, call.since
    found: dict[str, Any] = {}
    if sent_at:
        found["route"] = ((since or sent_at) - started_at) * 1000.0
        found["queue"] = (sent_at - since) * 1000.0 if since else 0.0
        if took_us:
            found["execute"] = took_us / 1000.0
            found["network"] = max(0.0, (now - sent_at) * 1000.0 - took_us / 1000.0)
    elif since:
        found["queue"] = (now - since) * 1000.0
    found["total"] = (now - started_at) * 1000.0
    return found
