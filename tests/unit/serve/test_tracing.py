"""The trace context of user code, and how handles hand it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context
from typing import Any

import pytest
from opentelemetry import trace

from eagleray import serve
from eagleray.base.span_outbox import Outbox, Processing
from eagleray.base.spans import Tracer
from eagleray.serve.context import RequestContext, _serve_request_context, process
from eagleray.serve.tracing import Tracing

SAMPLED = f"00-{'a' * 32}-{'b' * 16}-01"
UNSAMPLED = f"00-{'a' * 32}-{'c' * 16}-00"


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    outbox = Outbox(Processing([]))
    process.tracing = Tracing(Tracer(outbox, 1.0, {"service.name": "x"}))
    yield process.tracing
    process.tracing = None
    outbox.close(30)


def parent_in(context: Any) -> str:
    return Tracer.text_of(trace.get_current_span(context))


def test_there_is_no_context_where_nothing_is_traced() -> None:
    assert serve.get_trace_context() is None


def test_the_context_is_that_of_the_request(tracing: Tracing) -> None:
    assert serve.get_trace_context() is None  # outside of requests

    def inside() -> Any:
        _serve_request_context.set(RequestContext("r", traceparent=UNSAMPLED))
        return serve.get_trace_context()

    assert parent_in(Context().run(inside)) == UNSAMPLED


def test_a_span_of_the_user_comes_first(tracing: Tracing) -> None:
    request = RequestContext("r", traceparent=SAMPLED)
    assert tracing.context_text(request) == SAMPLED
    own = tracing.tracer.begin("own", SAMPLED, "INTERNAL", {})

    def inside() -> str:
        tracing.tracer.enter(own)
        return tracing.context_text(request)

    assert Context().run(inside) == Tracer.text_of(own)


def test_a_batch_stands_below_its_oldest_request_that_is_recorded(tracing: Tracing) -> None:
    others = [f"00-{digit * 32}-{digit * 16}-01" for digit in "12"]
    requests = [RequestContext(str(n), traceparent=text) for n, text in enumerate([UNSAMPLED, *others, ""])]
    batch = RequestContext("0", traceparent=UNSAMPLED)

    def inside() -> Any:
        return tracing.batch(requests, batch), tracing.tracer.current()

    span, current = Context().run(inside)
    assert span is current and batch.traceparent == Tracer.text_of(span)
    assert batch.traceparent.startswith(f"00-{'1' * 32}-")
    assert [link.context.span_id for link in span.links] == [int("2" * 16, 16)]
    assert Context().run(tracing.batch, requests[:1], batch) is None
