"""Sessions: the protocol of one connection as pure state, one class for each side.

Bytes go in by `receive`, frames come out in `out` (`wake` is called after each), callbacks tell what
has happened. Nothing here knows of sockets, time or loops, so every interleaving can be tested.

A callback that raises is logged and gives up its own call; the connection goes on. A peer that breaks the protocol
makes `receive` raise ProtocolError; the owner then calls `close`, which ends every open call exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from eagleray.base.errors import ProtocolError
from eagleray.wire.flow import WINDOW, Flow, Stream
from eagleray.wire.frames import (
    CALL,
    CANCEL,
    CREDIT,
    DATA,
    END,
    ERROR,
    GOAWAY,
    HELLO,
    KIND_MASK,
    KINDS,
    MAX_CHUNK,
    MAX_HEAD,
    MAX_STREAM_ID,
    MORE,
    PING,
    PONG,
    REPLY,
    ROOM,
    Buffer,
    Decoder,
    append_frame,
    pack_header,
)
from eagleray.wire.handshake import MAX_HELLO, Handshake
from eagleray.wire.messages import (
    CallHead,
    ErrorHead,
    decode_call,
    decode_error,
    decode_reply,
    encode_call,
)
from eagleray.wire.streams import CallHandler, ClientStream, Incoming

logger = logging.getLogger("eagleray.wire")

_HALF = 1 << 31
_SMALL = 16 * 1024
_CALL_END = CALL | END
_REPLY_END = REPLY | END
_ERROR_END = ERROR | END


class Session:
    """What both sides share: output, handshake, pings, back-pressure of the transport, the end."""

    def __init__(self, wake: Callable[[], None], handshake: Handshake) -> None:
        self.out: list[Buffer] = []
        self.wake = wake
        self.ready = False
        self.on_ready: Callable[[], None] | None = None
        self.on_pong: Callable[[bytes], None] | None = None
        self.closed = False
        self.reason = ""
        self.paused = False
        self.blocked: dict[int, Stream] = {}
        self._handshake = handshake
        self._decoder = Decoder(self._on_hello)
        self._decoder.max_head = MAX_HELLO
        self._decoder.max_chunk = 0
        self.receive = self._decoder.feed
        """Takes received bytes and calls back; raises ProtocolError."""
        hello = handshake.begin()
        if hello is not None:
            self.emit(HELLO, 0, hello)

    # ---- output ----------------------------------------------------------------------------------------------

    def emit(self, meta: int, stream_id: int, head: bytes = b"", body: Buffer = b"") -> None:
        append_frame(self.out, meta, stream_id, head, body)
        self.wake()

    def emit_raw(self, frame: bytes) -> None:
        self.out.append(frame)
        self.wake()

    def pause(self) -> None:
        """The transport is full: streams wait; unary calls and replies do not."""
        self.paused = True

    def resume(self) -> None:
        """The transport has room again."""
        self.paused = False
        for stream in tuple(self.blocked.values()):
            stream.pump()

    def ping(self, token: bytes) -> None:
        """Asks for a PONG with the same 8 bytes."""
        if not self.closed:
            self.emit(PING, 0, b"", token)

    # ---- input -----------------------------------------------------------------------------------------------

    def _on_hello(self, meta: int, stream_id: int, head: bytes, body: bytes) -> None:
        if meta != HELLO or stream_id:
            raise ProtocolError("the peer's first frame is not HELLO")
        answer = self._handshake.receive(head)
        if answer is not None:
            self.emit(HELLO, 0, answer)
        if self._handshake.done:
            self.ready = True
            self._decoder.max_head = MAX_HEAD
            self._decoder.max_chunk = MAX_CHUNK
            self._decoder.on_frame = self._on_frame
            if self.on_ready is not None:
                self.on_ready()

    def _on_frame(self, meta: int, stream_id: int, head: bytes, body: bytes) -> None:
        raise NotImplementedError

    def _on_connection_frame(self, meta: int, stream_id: int, body: bytes) -> None:
        """Frames that belong to no call."""
        if meta == PING and not stream_id and len(body) == 8:
            self.emit(PONG, 0, b"", body)
        elif meta == PONG and not stream_id and len(body) == 8:
            if self.on_pong is not None:
                self.on_pong(body)
        else:
            kind = meta & KIND_MASK
            name = KINDS[kind] if kind < len(KINDS) else str(kind)
            raise ProtocolError(
                f"unexpected frame {name} (flags {meta & ~KIND_MASK:#x}) on stream {stream_id}"
            )

    def notify(self, stream: Stream, callback: Callable[..., None], *args: Any) -> None:
        """Runs a callback of the call's owner; when it raises, that call is given up and nothing else."""
        try:
            callback(*args)
        except Exception:
            logger.exception("a callback of call %d has failed; the call is given up", stream.id)
            stream.abort()

    def close(self, reason: str) -> bool:
        """Ends all calls and takes no more input; output that was emitted before stays in `out`.

        Returns False when it was closed already.
        """
        if self.closed:
            return False
        self.closed = True
        self.reason = reason
        self._decoder.stop()
        self.blocked.clear()
        self._end_calls()
        return True

    def _end_calls(self) -> None:
        raise NotImplementedError


class ClientSession(Session):
    """The side that calls. `on_room` and `on_goaway` tell what the server says of itself."""

    def __init__(self, wake: Callable[[], None], handshake: Handshake) -> None:
        super().__init__(wake, handshake)
        self.streams: dict[int, ClientStream] = {}
        self.on_room: Callable[[], None] | None = None
        self.on_goaway: Callable[[], None] | None = None
        self._last_id = 0

    def call(self, head: CallHead, body: bytes, end: bool, handler: CallHandler) -> ClientStream:
        """Opens a call. Raises ValueError when its head does not fit; the session must not be closed."""
        data = encode_call(head)
        if len(data) > MAX_HEAD:
            raise ValueError(f"the head of the call is {len(data)} bytes, over the limit of {MAX_HEAD}")
        stream_id = self._last_id + 1
        if stream_id > MAX_STREAM_ID:
            stream_id = 1
        while stream_id in self.streams:
            stream_id = stream_id % MAX_STREAM_ID + 1
        self._last_id = stream_id
        self.streams[stream_id] = stream = ClientStream(self, stream_id, handler)
        size = len(body)
        if not end or size > MAX_CHUNK:
            stream.start(data, body, end)
        elif size <= _SMALL:
            header = pack_header(len(data) + size, stream_id, _CALL_END | len(data) << 8)
            self.out.append(b"".join((header, data, body)))
            self.wake()
        else:
            self.emit(_CALL_END, stream_id, data, body)
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
            try:
                stream.handler.on_reply(reply, body, True)
            except Exception:
                logger.exception("on_reply of call %d has failed", stream_id)
        else:
            self._on_stream_frame(stream, meta, head, body)

    def _on_notice(self, meta: int, body: bytes) -> None:
        notice = self.on_room if meta == ROOM else self.on_goaway if meta == GOAWAY else None
        if meta not in (ROOM, GOAWAY) or body:
            self._on_connection_frame(meta, 0, body)
        elif notice is not None:
            try:
                notice()
            except Exception:
                logger.exception("the callback for %s has failed", KINDS[meta])

    def _on_stream_frame(self, stream: ClientStream, meta: int, head: bytes, body: bytes) -> None:
        kind = meta & KIND_MASK
        if kind == DATA:
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

    def _on_data(self, stream: ClientStream, meta: int, body: bytes) -> None:
        if not stream.replied:
            raise ProtocolError(f"DATA before REPLY on call {stream.id}")
        more = bool(meta & MORE)
        end = bool(meta & END)
        if more and end:
            raise ProtocolError(f"DATA of call {stream.id} has both END and MORE")
        chunk = stream.assemble(stream.received(len(body)), body, more)
        if chunk is None:
            return
        if end:
            self._end(stream)
        if chunk or end:
            self.notify(stream, stream.handler.on_data, chunk, end)

    def _end(self, stream: ClientStream) -> None:
        stream.closed = True
        self.streams.pop(stream.id, None)
        self.blocked.pop(stream.id, None)

    def _finish(self, stream: ClientStream, error: ErrorHead, body: bytes) -> None:
        try:
            stream.handler.on_error(error, body)
        except Exception:
            logger.exception("on_error of call %d has failed", stream.id)

    def _end_calls(self) -> None:
        error = ErrorHead("replica_died", self.reason)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.closed = True
        for stream in streams.values():
            self._finish(stream, error, b"")


class ServerSession(Session):
    """The side that is called: `on_call` gets each new call and answers it through the `Incoming`."""

    def __init__(
        self, wake: Callable[[], None], handshake: Handshake, on_call: Callable[[Incoming], None]
    ) -> None:
        super().__init__(wake, handshake)
        self.streams: dict[int, Incoming] = {}
        self._on_call = on_call
        self._last_id = 0

    def room(self) -> None:
        """Tells a caller that was rejected: there is a free slot again."""
        if not self.closed:
            self.emit(ROOM, 0)

    def goaway(self) -> None:
        """Tells the caller to send no more calls here; those under way go on."""
        if not self.closed:
            self.emit(GOAWAY, 0)

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

    def _on_data(self, stream: Incoming, meta: int, body: bytes) -> None:
        more = bool(meta & MORE)
        end = bool(meta & END)
        if stream.ended or stream.cancelled or (more and end):
            raise ProtocolError(f"DATA on call {stream.id} after its end")
        # END alone may come before any credit was given.
        flow = stream.received(len(body)) if body else stream.ensure_flow()
        chunk = stream.assemble(flow, body, more)
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
