"""The two ends of one call: what the caller holds (`ClientStream`) and what the callee holds (`Incoming`).

A unary call is one frame each way and has no flow control at all; everything else inherits it from `flow.Stream`.

Sans-IO: frames are handed to the session. All callbacks run inside `Session.receive`, `resume` or `close`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from eagleray.wire.flow import WINDOW, Flow, Stream
from eagleray.wire.frames import (
    CALL,
    CANCEL,
    DATA,
    END,
    ERROR,
    MAX_CHUNK,
    MAX_HEAD,
    REPLY,
    Buffer,
    pack_header,
)
from eagleray.wire.messages import CallHead, ErrorHead, ReplyHead
from eagleray.wire.parts import Memory, Shared

if TYPE_CHECKING:
    from eagleray.wire.client_session import ClientSession
    from eagleray.wire.server_session import ServerSession

_CANCELLED = ErrorHead("cancelled", "The call was cancelled.")
_REPLY_END = REPLY | END
_SMALL = 16 * 1024
"""Bytes of body up to which a frame is one object; see `frames.append_frame`."""
_MAX_TEXT = 32 * 1024
"""Characters that are left of an error message which alone is over the limit of a head."""

encode_reply = encode_error = msgspec.msgpack.Encoder().encode


class CallHandler:
    """What the caller wants to hear, on the connection's loop. Exactly one terminal callback comes for each call:

    `on_reply` or `on_data` with `end`, or `on_error`. Bytes of a reply that goes on, and of data, are to be
    acknowledged by `ClientStream.consumed(n)`.
    """

    __slots__ = ()

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        """The answer or, without `end`, its beginning."""

    def on_data(self, chunk: bytes, end: bool) -> None:
        """A message of the answer, or the next chunk of a big reply."""

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        """The call has failed; a lost connection says `replica_died`."""

    def on_accepted(self) -> None:
        """The callee has taken an upload: `ClientStream.send` may be used."""

    def on_writable(self) -> None:
        """`ClientStream.writable` was false and is true again."""


class ClientStream(Stream):
    """The caller's end of a call. Methods may be called at any time; after the end they do nothing."""

    __slots__ = ("accepted", "cancelled", "handler", "managed", "replied")

    connection: ClientSession

    def __init__(self, connection: ClientSession, stream_id: int, handler: CallHandler) -> None:
        self.connection = connection
        self.id = stream_id
        self.flow = None
        self.closed = False
        self.cancelled = False
        self.replied = False
        self.handler = handler

    def start(self, head: bytes, body: bytes, end: bool) -> None:
        """Sends the CALL of an upload: `body` is its beginning or, with `end`, all of it, but more than one chunk."""
        self.flow = flow = Flow(0, WINDOW)
        self.accepted = False
        self.managed = end
        if len(body) <= MAX_CHUNK:
            self.connection.emit(CALL, self.id, head, body)
        else:
            view = memoryview(body)
            self.connection.emit(CALL, self.id, head, view[:MAX_CHUNK])
            flow.enqueue(view[MAX_CHUNK:], end, 0)
            self._block(flow)

    def send(self, chunk: Buffer, end: bool = False) -> None:
        """Sends a message of the request, or queues it until there is credit; to be used once accepted."""
        flow = self.flow
        if flow is not None and not self.closed and not self.cancelled:
            self._send(flow, chunk, end)

    def cancel(self) -> None:
        """Asks the callee to stop; the terminal callback comes with its answer. Idempotent."""
        if self.closed or self.cancelled:
            return
        self.cancelled = True
        if self.flow is not None:
            self.flow.queue.clear()
            self.flow.ending = True
            self.connection.blocked.pop(self.id, None)
        self.connection.emit(CANCEL, self.id)

    def credit(self, size: int) -> None:
        flow = self.flow
        if flow is None or self.cancelled:
            return
        if self.accepted:
            super().credit(size)
            return
        self.accepted = True
        flow.blocked = flow.blocked and bool(flow.queue)
        super().credit(size)
        if not self.managed:
            self.connection.notify(self, self.handler.on_accepted)

    def abort(self) -> None:
        self.cancel()

    def became_writable(self) -> None:
        if not self.managed and self.accepted:
            self.connection.notify(self, self.handler.on_writable)


class Incoming(Stream):
    """The callee's end of a call: answer it exactly once by `reply` (and `send`), or `fail`.

    `body` is the whole request body when `ended`, else its first chunk; the rest comes through `on_data` after
    `accept()`, and is to be acknowledged by `consumed`. `on_cancel` is called at most once, when the caller has
    cancelled or the connection is lost, and never after the answer has been given; the answer is still due then.
    """

    __slots__ = (
        "accepted",
        "body",
        "cancelled",
        "ended",
        "head",
        "on_cancel",
        "on_data",
        "on_writable",
        "replied",
    )

    connection: ServerSession

    def __init__(
        self, connection: ServerSession, stream_id: int, head: CallHead, body: bytes, ended: bool
    ) -> None:
        self.connection = connection
        self.id = stream_id
        self.flow = None
        self.closed = False
        self.head = head
        self.body = body
        self.ended = ended
        self.cancelled = False
        self.accepted = False
        self.replied = False
        self.on_data: Callable[[bytes, bool], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    # ---- the request -----------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Takes the call: the rest of its body may come. Idempotent; nothing to do when all is here."""
        if not self.ended and not self.accepted and not self.closed:
            self.accepted = True
            self._grant(self.ensure_flow(), WINDOW)

    def collect(self, limit: int, done: Callable[[bytes | bytearray], None]) -> None:
        """Accepts the call and calls `done(whole body)` once it is here, at once when it already is.

        A body over `limit` bytes fails the call with code `too_large`; a cancelled or lost call never calls `done`.
        """
        if self.ended:
            done(self.body)
            return
        if 0 < self.head.size <= limit:
            self.ensure_flow()
            whole = self.gather(self.head.size, self.body)
            self.on_data = lambda chunk, end: done(whole)
            self.accept()
            return
        parts = [self.body]
        size = len(self.body)

        def gather(chunk: bytes, end: bool) -> None:
            nonlocal size
            size += len(chunk)
            if size > limit:
                self.on_data = None
                self.fail(ErrorHead("too_large", f"The body of the call is larger than {limit} bytes."))
                return
            parts.append(chunk)
            self.consumed(len(chunk))
            if end:
                self.on_data = None
                done(b"".join(parts))

        self.on_data = gather
        self.accept()

    # ---- the answer ------------------------------------------------------------------------------------------

    @property
    def take(self) -> Callable[[int], Memory | None] | None:
        """Gives memory for a large answer that the caller can see too; None where there is no such thing."""
        leases = self.connection.leases
        return None if leases is None else leases.take

    def reply(self, head: ReplyHead, body: Buffer = b"", end: bool = True) -> None:
        """Answers. A body over `MAX_CHUNK` is sent in chunks under credit. Does nothing on a call that has ended."""
        if self.closed or self.replied:
            return
        connection = self.connection
        meta = _REPLY_END
        if type(body) is Shared:
            flag, body = connection.ship(body)
            meta |= flag
        size = len(body)
        if end and size > MAX_CHUNK:
            head.size = size
        data = encode_reply(head)
        if len(data) > MAX_HEAD:
            self.fail(
                ErrorHead("internal", f"The reply's headers are larger than {MAX_HEAD} bytes.", head.load)
            )
            return
        if end and size <= _SMALL and self.flow is None:
            self.closed = True
            self.on_cancel = self.on_data = self.on_writable = None  # whoever they belong to holds this call
            del connection.streams[self.id]
            header = pack_header(len(data) + size, self.id, meta | len(data) << 8)
            connection.emit_whole(b"".join((header, data, body)), len(connection.streams))
            return
        self.replied = True
        if end and size <= MAX_CHUNK:
            connection.emit(meta, self.id, data, body)
            self.sent_end()
            return
        if self.cancelled and size > MAX_CHUNK:
            self.fail(_CANCELLED)
            return
        first = memoryview(body)[:MAX_CHUNK] if size > MAX_CHUNK else body
        flow = self.ensure_flow()
        flow.window -= len(first)
        connection.emit(REPLY, self.id, data, first)
        if size > MAX_CHUNK:
            self._send(flow, memoryview(body)[MAX_CHUNK:], end, 0)
        elif end:
            self._send(flow, b"", True)

    def send(self, chunk: Buffer, end: bool = False) -> None:
        """Sends a message of the answer, or queues it until there is credit. After a cancel only `end` matters."""
        if self.closed:
            return
        if self.cancelled:
            if end:
                self.fail(_CANCELLED)
            return
        if not self.replied:
            self.reply(ReplyHead(), b"", False)
        self._send(self.ensure_flow(), chunk, end)

    def send_now(self, chunk: Buffer) -> bool:
        """Sends a message of an answer that has begun, if it may go out now and leaves room for more; else False."""
        flow, size = self.flow, len(chunk)
        if flow is None or not 0 < size < flow.window or size > MAX_CHUNK or flow.queue or flow.ending:
            return False
        if self.closed or self.cancelled or not self.replied or self.connection.paused:
            return False
        flow.window -= size
        self.connection.emit_data(DATA, self.id, chunk)
        return True

    def fail(self, head: ErrorHead, body: bytes = b"") -> None:
        """Ends the call without a (whole) answer. A body over `MAX_CHUNK` is left out."""
        if self.closed:
            return
        if self.flow is not None:
            self.flow.queue.clear()
        data = encode_error(head)
        if len(data) > MAX_HEAD:
            data = encode_error(ErrorHead(head.code, head.message[:_MAX_TEXT], head.load))
        self.connection.emit(ERROR | END, self.id, data, body if len(body) <= MAX_CHUNK else b"")
        self.sent_end()

    def sent_end(self) -> None:
        self.closed = True
        self.on_cancel = self.on_data = self.on_writable = None
        self.connection.blocked.pop(self.id, None)
        self.connection.streams.pop(self.id, None)

    def cancel(self) -> None:
        """The caller has cancelled. An answer that is still queued would never be credited, so it ends here."""
        if self.cancelled:
            return
        self.cancelled = True
        flow = self.flow
        if flow is not None and flow.ending:
            self.fail(_CANCELLED)
            return
        if flow is not None:
            flow.queue.clear()
        if self.on_cancel is not None:
            self.connection.notify(self, self.on_cancel)

    def abort(self) -> None:
        self.fail(ErrorHead("internal", "The call's handler failed; the callee's log has the traceback."))

    def became_writable(self) -> None:
        if self.on_writable is not None:
            self.connection.notify(self, self.on_writable)

    @property
    def writable(self) -> bool:
        """As `Stream.writable`; a cancelled call swallows what is sent, so it is writable."""
        if self.cancelled:
            return not self.closed
        if self.flow is None and not self.closed:
            self.ensure_flow()
        return super().writable

    def ensure_flow(self) -> Flow:
        """The flow of a call that is not unary after all."""
        if self.flow is None:
            self.flow = Flow(WINDOW, 0)
        return self.flow
