"""The calling side of a session."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from eagleray.base.errors import ProtocolError
from eagleray.wire.flow import WINDOW, Flow
from eagleray.wire.frames import (
    CALL,
    CREDIT,
    DATA,
    END,
    ERROR,
    GOAWAY,
    KIND_MASK,
    KINDS,
    MAX_CHUNK,
    MAX_HEAD,
    MAX_STREAM_ID,
    MORE,
    REPLY,
    REPORT,
    ROOM,
    SHARED,
    pack_header,
)
from eagleray.wire.handshake import Handshake
from eagleray.wire.messages import (
    CallHead,
    ErrorHead,
    ReplicaReport,
    decode_error,
    decode_reply,
    decode_report,
    encode_call,
)
from eagleray.wire.parts import Shared
from eagleray.wire.session import NO_LOCK, Lock, Session
from eagleray.wire.streams import CallHandler, ClientStream

logger = logging.getLogger("eagleray.wire")

_SMALL = 16 * 1024
_CALL_END = CALL | END
_REPLY_END = REPLY | END
_ERROR_END = ERROR | END
_NOBODY = CallHandler()
"""Hears what a stream says after its end. The stream then refers no more to the call that refers to it, so the value
of a call is freed with the call, and does not wait for the garbage collector: it may lie in memory that is lent."""


class ClientSession(Session):
    """The side that calls. `on_room`, `on_limit`, `on_goaway`, `on_report` tell what the server says of itself."""

    def __init__(self, wake: Callable[[], None], handshake: Handshake, lock: Lock = NO_LOCK) -> None:
        super().__init__(wake, handshake, lock)
        self.streams: dict[int, ClientStream] = {}
        self.on_room: Callable[[], None] | None = None
        self.on_goaway: Callable[[], None] | None = None
        self.on_limit: Callable[[int], None] | None = None
        self.on_report: Callable[[ReplicaReport], None] | None = None
        self._last_id = 0

    def call(self, head: CallHead, body: bytes, end: bool, handler: CallHandler) -> ClientStream:
        """Opens a call. Raises ValueError when its head does not fit; the session must not be closed."""
        size = len(body)
        meta = _CALL_END
        if type(body) is Shared:
            _check_head(encode_call(head))  # before anything is lent
            flag, body = self.ship(body)
            meta |= flag
            size = len(body)
        if end and size > MAX_CHUNK:
            head.size = size
        data = encode_call(head)
        if len(data) > MAX_HEAD:
            _check_head(data)
        with self.lock:
            stream = self._open(handler)
        if not end or size > MAX_CHUNK:
            stream.start(data, body, end)
        elif size <= _SMALL:
            header = pack_header(len(data) + size, stream.id, meta | len(data) << 8)
            self.emit_whole(b"".join((header, data, body)), len(self.streams))
        else:
            self.emit(meta, stream.id, data, body)
        return stream

    def open_alone(
        self, head: CallHead, body: bytes, handler: CallHandler
    ) -> tuple[ClientStream, bytes] | None:
        """From any thread, with `lock` held: opens a small call whose frame the caller writes before it lets go.

        None when that cannot be: calls are open, output waits, or the call is not small. With no other call open the
        owner's thread emits nothing that could come between.
        """
        data = encode_call(head)
        size = len(data) + len(body)
        if self.closed or not self.ready or self.streams or self.out or size > _SMALL or type(body) is Shared:
            return None
        stream = self._open(handler)
        return stream, b"".join((pack_header(size, stream.id, _CALL_END | len(data) << 8), data, body))

    def _open(self, handler: CallHandler) -> ClientStream:
        stream_id = self._last_id + 1
        if stream_id > MAX_STREAM_ID:
            stream_id = 1
        while stream_id in self.streams:
            stream_id = stream_id % MAX_STREAM_ID + 1
        self._last_id = stream_id
        self.streams[stream_id] = stream = ClientStream(self, stream_id, handler)
        return stream

    def _on_frame(self, meta: int, stream_id: int, head: bytes, body: bytes) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id:
                raise ProtocolError(
                    f"frame of kind {meta & KIND_MASK} for call {stream_id}, which is not open"
                )
            self._on_notice(meta, body)
        elif meta == _REPLY_END:
            try:
                reply = decode_reply(head)
            except msgspec.DecodeError as error:
                raise ProtocolError(f"malformed REPLY: {error}") from None
            if stream.replied:
                raise ProtocolError(f"second REPLY to call {stream_id}")
            del self.streams[stream_id]
            stream.closed = True
            if stream.flow is not None:
                self.blocked.pop(stream_id, None)
            handler = stream.handler
            stream.handler = _NOBODY
            try:
                handler.on_reply(reply, body, True)
            except Exception:
                logger.exception("on_reply of call %d has failed", stream_id)
        elif meta == DATA and body and stream.replied and stream.takes(len(body)):
            try:
                stream.handler.on_data(body, False)
            except Exception:
                logger.exception("on_data of call %d has failed; the call is given up", stream_id)
                stream.abort()
        else:
            self._on_stream_frame(stream, meta, head, body)

    def _on_report(self, body: bytes) -> None:
        try:
            report = decode_report(body)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"malformed REPORT: {error}") from None
        if self.on_report is not None:
            try:
                self.on_report(report)
            except Exception:
                logger.exception("the callback for REPORT has failed")

    def _on_notice(self, meta: int, body: bytes) -> None:
        if meta == REPORT:
            self._on_report(body)
            return
        notice: Callable[[], None] | None
        if meta == ROOM and len(body) == 4:
            on_limit = self.on_limit
            notice = None if on_limit is None else lambda: on_limit(int.from_bytes(body, "little"))
        elif meta in (ROOM, GOAWAY) and not body:
            notice = self.on_room if meta == ROOM else self.on_goaway
        else:
            self._on_connection_frame(meta, 0, body)
            return
        if notice is not None:
            try:
                notice()
            except Exception:
                logger.exception("the callback for %s has failed", KINDS[meta])

    def _on_stream_frame(self, stream: ClientStream, meta: int, head: bytes, body: bytes) -> None:
        kind = meta & KIND_MASK
        if meta == _REPLY_END | SHARED:
            self._on_frame(_REPLY_END, stream.id, head, self.borrow(body))
        elif kind == DATA:
            self._on_data(stream, meta, body)
        elif meta == REPLY:
            self._on_reply(stream, head, body)
        elif meta == _ERROR_END:
            try:
                error = decode_error(head)
            except msgspec.DecodeError as problem:
                raise ProtocolError(f"malformed ERROR: {problem}") from None
            self._end(stream)
            self._finish(stream, error, body)
        elif meta == CREDIT and len(body) == 4:
            stream.credit(int.from_bytes(body, "little"))
        else:
            self._on_connection_frame(meta, stream.id, body)

    def _on_reply(self, stream: ClientStream, head: bytes, body: bytes) -> None:
        try:
            reply = decode_reply(head)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"malformed REPLY: {error}") from None
        if stream.replied:
            raise ProtocolError(f"second REPLY to call {stream.id}")
        stream.replied = True
        if stream.flow is None:
            stream.flow = Flow(0, WINDOW)
            stream.accepted = stream.managed = True
        stream.received(len(body))
        self.notify(stream, stream.handler.on_reply, reply, body, False)

    def _stream(self, stream_id: int) -> ClientStream | None:
        return self.streams.get(stream_id)

    def _on_placed(self, meta: int, stream_id: int, size: int) -> None:
        self._on_data(self.streams[stream_id], meta, b"", size)

    def _on_data(self, stream: ClientStream, meta: int, body: bytes, placed: int = 0) -> None:
        if not stream.replied:
            raise ProtocolError(f"DATA before REPLY on call {stream.id}")
        more = bool(meta & MORE)
        end = bool(meta & END)
        if more and end:
            raise ProtocolError(f"DATA of call {stream.id} has both END and MORE")
        chunk = stream.assemble(stream.received(len(body) + placed), body, placed, more, end)
        if chunk is None:
            return
        if end:
            self._end(stream)
        if chunk or end:
            self.notify(stream, stream.handler.on_data, chunk, end)
        if end:
            stream.handler = _NOBODY

    def _end(self, stream: ClientStream) -> None:
        stream.closed = True
        self.streams.pop(stream.id, None)
        self.blocked.pop(stream.id, None)

    def _finish(self, stream: ClientStream, error: ErrorHead, body: bytes) -> None:
        handler = stream.handler
        stream.handler = _NOBODY
        try:
            handler.on_error(error, body)
        except Exception:
            logger.exception("on_error of call %d has failed", stream.id)

    def _end_calls(self) -> None:
        error = ErrorHead("replica_died", self.reason)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.closed = True
        for stream in streams.values():
            self._finish(stream, error, b"")


def _check_head(data: bytes) -> None:
    if len(data) > MAX_HEAD:
        raise ValueError(f"the head of the call is {len(data)} bytes, over the limit of {MAX_HEAD}")
