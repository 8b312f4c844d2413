"""Calls of a replica whose requests are traced: the span `replica_handle_request`, and what runs below it.

These classes take the place of the plain ones for requests that are recorded (`traced_calls`), so that it costs others
nothing. The span begins when user code gets the request and ends with the answer; it is the current one for user code.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from eagleray.base.spans import Tracer
from eagleray.base.tracing import headers_of, is_sampled, unsampled_context
from eagleray.replica.call import Call, Floor
from eagleray.replica.grpc_call import GrpcCall
from eagleray.replica.http_call import HttpCall
from eagleray.replica.metrics import text_of
from eagleray.replica.python_call import PythonCall
from eagleray.replica.websocket_call import WebSocketCall
from eagleray.serve.context import RequestContext, process
from eagleray.wire.messages import CallKind, Headers
from eagleray.wire.streams import Incoming

if TYPE_CHECKING:
    from eagleray.base.spans import Span

_NAME = "replica_handle_request"
_ERROR = 500
_CONTEXT = frozenset((b"traceparent", b"tracestate"))


class TracedRequestContext(RequestContext):
    """A request that may have a span, which is ended with the answer."""

    __slots__ = ("span",)
    span: Span | None


class Traced(Call):
    """The part that all kinds of calls share."""

    __slots__ = ()
    request_context = TracedRequestContext

    @property
    def span(self) -> Span | None:
        """None before user code has got the request, and where it is not recorded."""
        return self.context.span if isinstance(self.context, TracedRequestContext) else None

    def make_context(self, is_http: bool) -> RequestContext:
        context = super().make_context(is_http)
        assert isinstance(context, TracedRequestContext)
        context.span = None
        tracing = process.tracing
        if tracing is None:
            return context
        tracer, head = tracing.tracer, self.incoming.head
        context.span = span = tracer.begin(_NAME, head.traceparent, "SERVER", self._attributes())
        context.traceparent = tracer.text_of(span)
        if head.http is not None:
            tell_application(head.http.headers, context.traceparent)
        if self.in_thread:
            tracer.enter(span)
        return context

    def _attributes(self) -> dict[str, Any]:
        head, (deployment, replica, app) = self.incoming.head, self.floor.metrics.labels
        return {
            "request_id": head.request_id,
            "application": app,
            "deployment": deployment,
            "replica": replica,
            "route": head.route,
            "method": head.http.method if head.http is not None else head.method or "__call__",
        }

    def run(self, work: Coroutine[Any, Any, None], request: RequestContext) -> None:
        span, tracing = self.span, process.tracing
        if span is not None and tracing is not None:
            work = _run_in(tracing.tracer, span, work)
        super().run(work, request)

    # ---- the end ---------------------------------------------------------------------------------------------

    def count_error(self, kind: str) -> None:
        if self.span is not None:
            self.span.set_attribute("error.type", kind)
        super().count_error(kind)

    def _leave(self, code: str = "") -> int:
        load = super()._leave(code)
        if self.span is not None and self.begun_at:
            trace_id = f"{self.span.get_span_context().trace_id:032x}"
            self.floor.metrics.exemplify(self.route, trace_id, self.took_us / 1000.0)
        return load

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        super()._answer(status, headers, body)
        self._end_span("")

    def _finish(self) -> None:
        super()._finish()
        self._end_span("")

    def _fail(self, code: str, message: str, body: bytes = b"") -> None:
        super()._fail(code, message, body)
        self._end_span(code)

    def _end_span(self, code: str) -> None:
        span, tracing = self.span, process.tracing
        if span is None or tracing is None:
            return
        span.set_attribute("route", text_of(self.route))
        described = self.describe(code)
        status = described[2] if described is not None else ""
        if status:
            span.set_attribute("status", status)
        if (code and code != "cancelled") or status == "ERROR" or self.status >= _ERROR:
            tracing.tracer.fail(span)
        span.end()


async def _run_in(tracer: Tracer, span: Span, work: Coroutine[Any, Any, None]) -> None:
    """A task's root, as `work` is: the span is current in the task."""
    tracer.enter(span)
    await work


class TracedHttpCall(Traced, HttpCall):
    """An HTTP request."""

    __slots__ = ()


class TracedGrpcCall(Traced, GrpcCall):
    """An RPC."""

    __slots__ = ()


class TracedPythonCall(Traced, PythonCall):
    """A handle call."""

    __slots__ = ()


class TracedWebSocketCall(Traced, WebSocketCall):
    """A WebSocket."""

    __slots__ = ()


_KINDS: dict[int, Any] = {
    CallKind.HTTP: TracedHttpCall,
    CallKind.GRPC: TracedGrpcCall,
    CallKind.PYTHON: TracedPythonCall,
    CallKind.WEBSOCKET: TracedWebSocketCall,
}


def traced_calls(plain: Mapping[int, Any], tracer: Tracer) -> dict[int, Any]:
    """What makes a call of each kind where tracing is on: `plain` ones unless the request is recorded."""

    def choose(kind: int) -> Callable[[Floor, Incoming], Any]:
        traced, untraced = _KINDS[kind], plain[kind]

        def make(floor: Floor, incoming: Incoming) -> Any:
            head = incoming.head
            context = head.traceparent
            if context:
                if is_sampled(context):
                    return traced(floor, incoming)
            elif tracer.decide("") is not None:
                return traced(floor, incoming)
            else:
                head.traceparent = context = unsampled_context()
            if floor.user.app is not None and head.http is not None:
                tell_application(head.http.headers, context)
            return untraced(floor, incoming)

        return make

    return {**plain, **{kind: choose(kind) for kind in _KINDS}}


def tell_application(headers: Headers, context: str) -> None:
    """An ASGI application that traces itself goes by its headers; what it does is to be below ours."""
    # In place: the ASGI scope has this list already.
    headers[:] = [one for one in headers if one[0] not in _CONTEXT] + headers_of(context)
