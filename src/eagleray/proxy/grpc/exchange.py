"""One RPC's life in the proxy: a routed call at one end, a coroutine of grpc.aio that waits at the other.

Requests and answers travel as the bytes that they are; nothing is parsed here. A unary answer is one future. A stream
is a queue that credit bounds: it grows no faster than the client takes messages. No gRPC is imported.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from eagleray.base.errors import (
    GRPC_STATUS,
    BackPressureError,
    DeploymentUnavailableError,
    EaglerayError,
    RequestTimeoutError,
)
from eagleray.routing import RoutedCall
from eagleray.wire.messages import (
    STATUS_HEADER,
    CallHead,
    ErrorHead,
    GrpcStatus,
    ReplyHead,
    decode_grpc_status,
)

if TYPE_CHECKING:
    from eagleray.proxy.deadlines import Deadlines, Timed
    from eagleray.proxy.observing import Watch

INTERNAL = 13
_RESOURCE_EXHAUSTED = 8


class TooLargeError(EaglerayError):
    """A reply is larger than may be sent."""

    code = "too_large"


class RpcExchange(RoutedCall):
    """What all kinds of RPC share. `finish` is called exactly once, with how it ended; None: OK and nothing to add."""

    __slots__ = ("_bucket", "_timeout_s", "started_at", "upload", "watch")

    def __init__(self, key: str, head: CallHead, body: bytes, body_complete: bool) -> None:
        super().__init__(key, head, body, body_complete)
        self.came_at = self.started_at = monotonic()
        self._timeout_s = 0.0
        self._bucket: set[Timed] | None = None
        self.upload: Upload | None = None
        self.watch: Watch | None = None
        """Its spans, where the RPC is recorded."""

    def set_timeout(self, timeout_s: float, deadlines: Deadlines) -> None:
        """The RPC must have ended by then."""
        self._timeout_s = timeout_s
        self._bucket = deadlines.add(self, timeout_s)

    def leave(self) -> None:
        """The client has its answer, or wants none any more: what still runs is cancelled."""
        if self._bucket is not None:
            self._bucket.discard(self)
            self._bucket = None
        self.cancel()

    def finish(self, status: GrpcStatus | None) -> None:
        raise NotImplementedError

    def on_user_error(self, head: ErrorHead, body: bytes) -> None:
        self.finish(_decoded(body))

    def on_failed(self, error: EaglerayError) -> None:
        trailing: list[tuple[str, str | bytes]] = []
        text = str(error)
        if isinstance(error, RequestTimeoutError):
            text = f"Request timed out after {self._timeout_s}s." if self._timeout_s else text
        elif isinstance(error, BackPressureError):
            text = error.message
            if error.retry_after_s is not None:
                trailing = [("retry-after", f"{error.retry_after_s:g}")]
        elif isinstance(error, DeploymentUnavailableError):
            text = error.message
        self.finish(GrpcStatus(GRPC_STATUS.get(error.code, INTERNAL), text, trailing))

    def on_deadline(self) -> None:
        """The time is up."""
        self._bucket = None
        self.cancel(RequestTimeoutError(self.head.request_id))

    def on_accepted(self) -> None:
        if self.upload is not None:
            self.upload.writable.set()

    def on_writable(self) -> None:
        if self.upload is not None:
            self.upload.writable.set()


def _status_in(head: ReplyHead) -> GrpcStatus | None:
    for name, value in head.headers:
        if name == STATUS_HEADER:
            return _decoded(value)
    return None


def _decoded(data: bytes) -> GrpcStatus:
    """A status as a replica has sent it; INTERNAL where it cannot be read: the client waits for an answer."""
    try:
        return decode_grpc_status(data)
    except (msgspec.MsgspecError, ValueError):
        text = (
            "The replica's status cannot be read."
            if data
            else "The replica's status was too large to be sent."
        )
        return GrpcStatus(INTERNAL, text)


UnaryReply = asyncio.Future[tuple[GrpcStatus | None, bytes]]
"""Status and message of an RPC whose answer is one message; None where the status is OK and says nothing more."""


class UnaryAnswer(RpcExchange):
    """An RPC whose answer is one message: `done` becomes (status, message)."""

    __slots__ = ("_limit", "_parts", "_reply", "_size", "done")

    def __init__(
        self,
        key: str,
        head: CallHead,
        body: bytes,
        body_complete: bool,
        done: UnaryReply,
        limit: int,
    ) -> None:
        super().__init__(key, head, body, body_complete)
        self.done = done
        self._limit = limit
        self._parts: list[bytes] | None = None
        self._size = 0
        self._reply: ReplyHead | None = None

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        if end:
            self._answer(head, body)
            return
        self._reply = head
        self._parts = []
        self._gather(body)

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        if self._parts is None or self._reply is None:
            return
        self._gather(chunk)
        if end and self._parts is not None:
            self._answer(self._reply, b"".join(self._parts))

    def _gather(self, chunk: bytes) -> None:
        """A reply over one chunk of the wire: its size is known to nobody before it is here."""
        assert self._parts is not None
        self._size += len(chunk)
        if self._size > self._limit:
            self._parts = None
            error = TooLargeError(f"The reply is larger than {self._limit} bytes (max_message_bytes).")
            self.cancel(error)
            self.on_failed(error)  # with its last chunk the call has ended already, and `cancel` says nothing
            return
        self._parts.append(chunk)
        if self.stream is not None:
            self.stream.consumed(len(chunk))

    def _answer(self, head: ReplyHead, body: bytes) -> None:
        self.stream = None  # it knows us too: without this every request would be a cycle for the collector
        status = _status_in(head)
        if len(body) > self._limit:
            text = f"The reply has {len(body)} bytes, more than {self._limit} (max_message_bytes)."
            status, body = GrpcStatus(_RESOURCE_EXHAUSTED, text), b""
        if not self.done.done():
            self.done.set_result((status, body))

    def finish(self, status: GrpcStatus | None) -> None:
        if not self.done.done():
            self.done.set_result((status, b""))


class StreamAnswer(RpcExchange):
    """An RPC whose answer is a stream: `messages` in order; the status, once `ended`, is behind the last of them."""

    __slots__ = ("changed", "compression", "ended", "messages", "status")

    def __init__(self, key: str, head: CallHead, body: bytes, body_complete: bool) -> None:
        super().__init__(key, head, body, body_complete)
        self.messages: deque[bytes] = deque()
        self.compression = -1
        self.changed = asyncio.Event()
        self.ended = False
        self.status: GrpcStatus | None = None

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        if (status := _status_in(head)) is not None:
            self.compression = status.compression
        self.on_chunk(body, end)

    def on_chunk(self, chunk: bytes, end: bool) -> None:
        if chunk:
            self.messages.append(chunk)
        if end:
            self.stream = None
        self.ended = self.ended or end
        self.changed.set()

    def consumed(self, size: int) -> None:
        """The client has taken a message: as much more may come."""
        if self.stream is not None:
            self.stream.consumed(size)

    def finish(self, status: GrpcStatus | None) -> None:
        self.status = status
        self.ended = True
        self.changed.set()


class Upload:
    """The way in of a client stream: `writable` once the replica has taken the call and has room for more."""

    __slots__ = ("_exchange", "writable")

    def __init__(self, exchange: RpcExchange) -> None:
        self._exchange = exchange
        self.writable = asyncio.Event()
        exchange.upload = self

    async def send(self, message: bytes, end: bool = False) -> None:
        """Sends a message, and returns when the next one may be."""
        stream = self._exchange.stream
        if stream is None:
            return
        stream.send(message, end)
        if not end and not stream.writable:
            self.writable.clear()
            await self.writable.wait()
