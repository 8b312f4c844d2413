"""The called side of a session."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from eagleray.base.errors import ProtocolError
from eagleray.wire.frames import (
    CALL,
    CANCEL,
    CREDIT,
    DATA,
    END,
    GOAWAY,
    KIND_MASK,
    MAX_STREAM_ID,
    MORE,
    REPORT,
    ROOM,
    SHARED,
)
from eagleray.wire.handshake import Handshake
from eagleray.wire.messages import decode_call
from eagleray.wire.session import NO_LOCK, Lock, Session
from eagleray.wire.streams import Incoming

logger = logging.getLogger("eagleray.wire")

_HALF = 1 << 31
_CALL_END = CALL | END


class ServerSession(Session):
    """The side that is called: `on_call` gets each new call and answers it through the `Incoming`."""

    def __init__(
        self,
        wake: Callable[[], None],
        handshake: Handshake,
        on_call: Callable[[Incoming], None],
        lock: Lock = NO_LOCK,
    ) -> None:
        super().__init__(wake, handshake, lock)
        self.streams: dict[int, Incoming] = {}
        self._on_call = on_call
        self._last_id = 0

    def room(self) -> None:
        """Tells a caller that was rejected: there is a free slot again."""
        if not self.closed:
            self.emit(ROOM, 0)

    def limit(self, calls: int) -> None:
        """Tells the caller how many calls run here at once from now on, whatever it was told before."""
        if not self.closed:
            self.emit(ROOM, 0, b"", calls.to_bytes(4, "little"))

    def goaway(self) -> None:
        """Tells the caller to send no more calls here; those under way go on."""
        if not self.closed:
            self.emit(GOAWAY, 0)

    def report(self, report: bytes) -> None:
        """Tells the caller what this server says of itself; at most one chunk."""
        if not self.closed:
            self.emit(REPORT, 0, b"", report)

    def _on_frame(self, meta: int, stream_id: int, head: bytes, body: bytes) -> None:
        if meta in (_CALL_END, CALL):
            if (
                stream_id in self.streams
                or not stream_id
                or not 0 < (stream_id - self._last_id) & MAX_STREAM_ID < _HALF
            ):
                raise ProtocolError(f"stream id {stream_id} is used again (last one: {self._last_id})")
            self._last_id = stream_id
            try:
                call = decode_call(head)
            except msgspec.DecodeError as error:
                raise ProtocolError(f"malformed CALL: {error}") from None
            self.streams[stream_id] = incoming = Incoming(self, stream_id, call, body, meta == _CALL_END)
            try:
                self._on_call(incoming)
            except Exception:
                logger.exception("the handler of call %d has failed", stream_id)
                incoming.abort()
            return
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._on_stream_frame(stream, meta, body)
        elif not stream_id:
            self._on_connection_frame(meta, 0, body)
        elif meta == _CALL_END | SHARED:
            self._on_frame(_CALL_END, stream_id, head, self.borrow(body))
        elif meta & KIND_MASK not in (DATA, CREDIT, CANCEL):
            self._on_connection_frame(meta, stream_id, body)
        elif 0 < (stream_id - self._last_id) & MAX_STREAM_ID < _HALF:
            raise ProtocolError(f"frame for call {stream_id}, which was never opened")
        # else: it crossed our answer, which has ended the call.

    def _on_stream_frame(self, stream: Incoming, meta: int, body: bytes) -> None:
        if meta & KIND_MASK == DATA:
            self._on_data(stream, meta, body)
        elif meta == CREDIT and len(body) == 4:
            stream.credit(int.from_bytes(body, "little"))
        elif meta == CANCEL and not body:
            stream.cancel()
        else:
            self._on_connection_frame(meta, stream.id, body)

    def _stream(self, stream_id: int) -> Incoming | None:
        return self.streams.get(stream_id)

    def _on_placed(self, meta: int, stream_id: int, size: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:  # else it was answered meanwhile
            self._on_data(stream, meta, b"", size)

    def _on_data(self, stream: Incoming, meta: int, body: bytes, placed: int = 0) -> None:
        more = bool(meta & MORE)
        end = bool(meta & END)
        if stream.ended or stream.cancelled or (more and end):
            raise ProtocolError(f"DATA on call {stream.id} after its end")
        # END alone may come before any credit was given.
        size = len(body) + placed
        flow = stream.received(size) if size else stream.ensure_flow()
        chunk = stream.assemble(flow, body, placed, more, end)
        if chunk is None:
            return
        stream.ended = end
        if stream.on_data is not None and (chunk or end):
            self.notify(stream, stream.on_data, chunk, end)

    def _end_calls(self) -> None:
        streams, self.streams = self.streams, {}
        cancelled = [stream for stream in streams.values() if not stream.cancelled]
        for stream in streams.values():
            stream.closed = stream.cancelled = True
        for stream in cancelled:
            if stream.on_cancel is not None and not (stream.flow is not None and stream.flow.ending):
                self.notify(stream, stream.on_cancel)
