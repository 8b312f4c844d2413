"""What strangers can send, as functions of bytes: each takes anything, and lets only a clean refusal happen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated

import numpy as np
import numpy.typing as npt
from opentelemetry.trace import TraceState
from pydantic import BaseModel, Field
from tests.session_pair import Pair
from tests.unit.http.reading import outcome
from tests.unit.http.test_websocket import feed, opened
from tests.unit.replica.typed.asking import entry_of, request
from tests.websocket_frames import DEFLATE

from eagleray.base.errors import ProtocolError
from eagleray.base.tracing import context_of, headers_of
from eagleray.replica.typed import RequestRefused, TypedEntry
from eagleray.wire.session import Session


class Node(BaseModel):
    name: Annotated[str, Field(max_length=5)]
    numbers: list[float] = []
    children: list[Node] = []


def _entry(annotation: object) -> TypedEntry:
    def function(value: object) -> object:
        return value

    function.__annotations__ = {"value": annotation}
    return entry_of(function)


_ENTRIES = [(_entry(Node), "application/json"), (_entry(npt.NDArray[np.float64]), "application/x-npy")]


def http(data: bytes) -> None:
    """Two reads of one connection; the first byte says where the cut is."""
    cut = data[0] if data else 0
    outcome(data[1 : 1 + cut], data[1 + cut :])


def websocket(data: bytes) -> None:
    """Frames after a handshake, with compression or without."""
    deflate = bool(data[:1] and data[0] & 1)
    protocol = opened(*([DEFLATE] if deflate else []), websocket_max_message_bytes=2000)
    feed(protocol, data[1:])
    assert sum(map(len, protocol.take_output())) < 100_000


def wire(data: bytes) -> None:
    """Bytes of a peer that has said HELLO, to the called or to the calling side, which has a call open."""
    pair = Pair()
    pair.run()
    side: Session = pair.server if data[:1] and data[0] & 1 else pair.client
    heard, _ = pair.call(b"question")
    with contextlib.suppress(ProtocolError):
        side.receive(data[1:])
    side.close("the end of the test")
    assert heard.terminal <= 1


def typed(data: bytes) -> None:
    """A request body for an annotated parameter."""
    entry, kind = _ENTRIES[data[0] % len(_ENTRIES) if data else 0]
    with contextlib.suppress(RequestRefused):
        entry(request(data[1:], content_type=kind))


def trace(data: bytes) -> None:
    """A trace context, which is a valid one but for some bytes: what is read is valid, and OpenTelemetry takes it."""
    changes, _, state = data.partition(b"\n")
    parent = bytearray(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    for at, byte in zip(changes[::2], changes[1::2], strict=False):
        parent[at % 64 : at % 64 + 1] = bytes((byte,))
    context = context_of(
        [(b"traceparent", bytes(parent)), *((b"tracestate", one) for one in state.split(b"\n"))]
    )
    if context:
        assert context_of(headers_of(context)) == context
        kept = context[56:]
        assert TraceState.from_header([kept]).to_header() == kept


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (http, websocket, wire, typed, trace)
}
