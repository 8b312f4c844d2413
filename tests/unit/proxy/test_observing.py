"""What a proxy watches of a request: who is traced, and where the time went."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from eagleray.base.span_outbox import Outbox
from eagleray.base.spans import Tracer
from eagleray.base.tracing import is_sampled, trace_id_of
from eagleray.proxy.observing import NOT_TRACING, Observing, hops_of
from eagleray.routing import RoutedCall
from eagleray.wire.messages import CallHead, CallKind

TRACE = "a" * 32
SAMPLED = f"00-{TRACE}-{'b' * 16}-01"
UNSAMPLED = f"00-{TRACE}-{'b' * 16}-00"


class Kept:
    def __init__(self) -> None:
        self.spans: list[Any] = []

    def started(self, span: Any, parent: Any) -> None:
        pass

    def export(self, spans: Any) -> bool:
        self.spans += spans
        return True

    def close(self) -> None:
        pass


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def outbox(kept: Kept) -> Iterator[Outbox]:
    outbox = Outbox(kept)
    yield outbox
    outbox.close(30)


def head_of() -> CallHead:
    return CallHead(CallKind.HTTP, "", "r", 0.0, "app", "/p")


def opened(observing: Observing, *headers: tuple[bytes, bytes]) -> tuple[Any, CallHead]:
    head = head_of()
    return observing.open(head, list(headers), dict(headers)), head


def test_nothing_is_watched_where_nobody_asks() -> None:
    assert Observing.of(None, False) is None
    watch, head = opened(NOT_TRACING, (b"x-eagleray-timing", b"0"))
    assert watch is None and head.traceparent == ""


def test_times_are_told_without_tracing() -> None:
    watch, head = opened(NOT_TRACING, (b"x-eagleray-timing", b"1"))
    assert watch.is_timed and watch.span is None and head.traceparent == ""
    always = Observing.of(None, True)
    assert always is not None and opened(always)[0].is_timed


def test_the_client_decides_who_is_recorded(outbox: Outbox) -> None:
    observing = Observing(Tracer(outbox, 0.0, {"service.name": "x"}))
    watch, head = opened(observing, (b"traceparent", SAMPLED.encode()))
    assert trace_id_of(head.traceparent) == watch.trace_id == TRACE and is_sampled(head.traceparent)
    watch, head = opened(observing, (b"traceparent", UNSAMPLED.encode()))
    assert watch is None and head.traceparent == UNSAMPLED


def test_a_bad_header_is_as_good_as_none(outbox: Outbox) -> None:
    never = Observing(Tracer(outbox, 0.0, {"service.name": "x"}))
    for value in (SAMPLED.upper(), SAMPLED + "x", "", f"00-{'0' * 32}-{'b' * 16}-01"):
        watch, head = opened(never, (b"traceparent", value.encode()))
        assert watch is None and not is_sampled(head.traceparent)
        assert trace_id_of(head.traceparent) != TRACE
    twice = (b"traceparent", SAMPLED.encode()), (b"traceparent", SAMPLED.encode())
    assert opened(never, *twice)[0] is None
    always = Observing(Tracer(outbox, 1.0, {"service.name": "x"}))
    watch, head = opened(always, (b"traceparent", b"nonsense"))
    assert is_sampled(head.traceparent) and watch.trace_id != TRACE


def test_both_spans_end_with_the_answer(outbox: Outbox, kept: Kept) -> None:
    observing = Observing(Tracer(outbox, 1.0, {"service.name": "x"}))
    watch, head = opened(observing)
    call = RoutedCall("app#D", head)
    watch.submitted(call)
    call.sent_at = monotonic()
    watch.ended(call, 503, "/p/x", True)
    outbox.close(30)
    routing, request = kept.spans
    assert (routing.name, request.name) == ("route_to_replica", "proxy_http_request")
    assert routing.parent.span_id == request.context.span_id
    assert head.traceparent == Tracer.text_of(routing)
    assert request.attributes["status"] == 503 and request.attributes["route"] == "/p/x"
    assert not request.status.is_ok and [one.name for one in routing.events] == ["sent"]


def test_hops_are_told_as_far_as_the_call_has_come() -> None:
    now = monotonic()
    call = RoutedCall("app#D", head_of())
    assert list(hops_of(call, now, 0)) == ["total"]
    call.since = now + 1
    assert list(hops_of(call, now, 0)) == ["queue", "total"]
    call.sent_at = now + 3
    hops = hops_of(call, now, 2000)
    assert hops["route"] == pytest.approx(1000) and hops["queue"] == pytest.approx(2000)
    assert hops["execute"] == 2.0 and hops["network"] == 0.0
