"""Traces of user code: the context of its request, spans of the calls that it makes, and those of its batches.

A replica installs a `Tracing` where requests are traced; elsewhere handles and batches see None and do nothing.
A call's span is `route_to_replica`, below whatever span its caller runs in, often one of the user's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eagleray.base.spans import Tracer, monotonic_to_wall_ns
from eagleray.base.tracing import is_sampled
from eagleray.serve.context import RequestContext, current_request, process
from eagleray.serve.response import ERROR, PENDING, REMOTE_ERROR, HandleCall, StreamCall
from eagleray.serve.runtime import Runtime
from eagleray.wire.messages import CallHead

if TYPE_CHECKING:
    from eagleray.base.spans import Context, Span


class Tracing:
    """Of one replica. All methods may be called from any thread."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def call(
        self,
        stream: bool,
        runtime: Runtime,
        key: str,
        head: CallHead,
        body: bytes,
        request: RequestContext,
    ) -> HandleCall:
        """A call of a handle, with a span when that of its caller is recorded."""
        context = self.context_text(request)
        if not context or not is_sampled(context):
            head.traceparent = context
            return (StreamCall if stream else HandleCall)(runtime, key, head, body, request)
        app, _, deployment = key.partition("#")
        attributes = {
            "request_id": head.request_id,
            "application": app,
            "deployment": deployment,
            "method": head.method or "__call__",
        }
        span = self.tracer.begin("route_to_replica", context, "CLIENT", attributes)
        head.traceparent = self.tracer.text_of(span)
        call = (TracedStreamCall if stream else TracedHandleCall)(runtime, key, head, body, request)
        call.span, call.tracer = span, self.tracer
        return call

    def batch(self, requests: Sequence[RequestContext], batch: RequestContext) -> Span | None:
        """The span of a batch: below its oldest request that is recorded, with links to the others; None: none is.

        It becomes the current one, and the parent of what `batch`, the context of the whole batch, hands on.
        """
        contexts = [one.traceparent for one in requests if one.traceparent and is_sampled(one.traceparent)]
        if not contexts:
            return None
        first = requests[0]
        attributes = {
            "request_id": first.request_id,
            "application": first.app_name,
            "batch_size": len(requests),
        }
        span = self.tracer.begin("batch", contexts[0], "INTERNAL", attributes, contexts[1:])
        batch.traceparent = self.tracer.text_of(span)
        self.tracer.enter(span)
        return span

    def context_text(self, request: RequestContext) -> str:
        """The trace context that the present code hands on."""
        span = self.tracer.current()
        return self.tracer.text_of(span) if span is not None else request.traceparent

    def context(self) -> Context | None:
        """OpenTelemetry's context of the present code; None outside of requests."""
        span = self.tracer.current()
        request = current_request()
        if span is None:
            span = getattr(request, "span", None)
        if span is not None:
            return self.tracer.context_with(span)
        return self.tracer.parent(request.traceparent) if request.traceparent else None


class _Traced(HandleCall):
    __slots__ = ()
    span: Span
    tracer: Tracer

    def settle(self, outcome: int, payload: object) -> None:
        if self.outcome != PENDING:
            return
        super().settle(outcome, payload)
        span = self.span
        if self.sent_at:
            span.add_event("sent", timestamp=monotonic_to_wall_ns(self.sent_at))
        if self.target is not None:
            span.set_attribute("replica", self.target.entry.replica_id)
        if outcome in (ERROR, REMOTE_ERROR):
            self.tracer.fail(span)
        span.end()


class TracedHandleCall(_Traced):
    """A call with a span."""

    __slots__ = ("span", "tracer")


class TracedStreamCall(_Traced, StreamCall):
    """A streaming call with a span."""

    __slots__ = ("span", "tracer")


def get_trace_context() -> Context | None:
    """OpenTelemetry's context of the request that this code serves, for spans of your own; None where tracing is off.

    It is the current context already, so `tracer.start_as_current_span("work")` begins below it in an async method or
    a thread of a sync one; pass it as `context=` where contextvars do not reach.
    """
    tracing = process.tracing
    return None if tracing is None else tracing.context()
