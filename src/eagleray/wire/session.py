"""Sessions: the protocol of one connection as pure state, one class for each side.

Bytes go in by `receive`, frames come out in `out` (`wake` is called after each), callbacks tell what
has happened. Nothing here knows of sockets, time or loops, so every interleaving can be tested.

A callback that raises is logged and gives up its own call; the connection goes on. A peer that breaks the protocol
makes `receive` raise ProtocolError; the owner then calls `close`, which ends every open call exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from eagleray.base.errors import ProtocolError
from eagleray.wire.flow import Stream
from eagleray.wire.frames import (
    COPY_LIMIT,
    DATA,
    HELLO,
    KIND_MASK,
    KINDS,
    MAX_CHUNK,
    MAX_HEAD,
    MEMORY,
    PING,
    PONG,
    SHARED,
    Buffer,
    Decoder,
    append_frame,
    pack_header,
)
from eagleray.wire.handshake import MAX_HELLO, Handshake
from eagleray.wire.leases import Leases, refusal
from eagleray.wire.parts import Shared, inline

logger = logging.getLogger("eagleray.wire")

Lock = AbstractContextManager[object]
NO_LOCK: Lock = nullcontext()
MANY = 4
"""Calls under way from which on it pays to let some leave together: each costs a system call and wakes the peer."""


class Session:
    """What both sides share: output, handshake, pings, back-pressure of the transport, the end."""

    def __init__(self, wake: Callable[[], None], handshake: Handshake, lock: Lock = NO_LOCK) -> None:
        self.out: list[Buffer] = []
        self.lock = lock
        """Held while output leaves and while a call is opened: see `ClientSession.open_alone`."""
        self.wake = wake
        self.wake_soon = wake
        """As `wake`, for messages of streams; the owner may let it wait for more of them."""
        self.wake_among = wake
        """As `wake`, for a call or an answer when many are under way; the owner may let a few go together."""
        self.ready = False
        self.on_ready: Callable[[], None] | None = None
        self.on_pong: Callable[[bytes], None] | None = None
        self.closed = False
        self.reason = ""
        self.paused = False
        self.blocked: dict[int, Stream] = {}
        self.leases: Leases | None = None
        """Shared memory for large values; None: they go through the connection."""
        self._handshake = handshake
        self.decoder = Decoder(self._on_hello)
        self.decoder.max_head = MAX_HELLO
        self.decoder.max_chunk = 0
        self.decoder.destination = self._destination
        self.decoder.on_placed = self._on_placed
        self.receive = self.decoder.feed
        """Takes received bytes and calls back; raises ProtocolError."""
        hello = handshake.begin()
        if hello is not None:
            self.emit(HELLO, 0, hello)

    # ---- output ----------------------------------------------------------------------------------------------

    def emit(self, meta: int, stream_id: int, head: bytes = b"", body: Buffer = b"") -> None:
        append_frame(self.out, meta, stream_id, head, body)
        self.wake()

    def emit_data(self, meta: int, stream_id: int, chunk: Buffer) -> None:
        size = len(chunk)
        if size <= COPY_LIMIT:
            self.out.append(pack_header(size, stream_id, meta) + chunk)
        else:
            append_frame(self.out, meta, stream_id, b"", chunk)
        self.wake_soon()

    def emit_whole(self, frame: bytes, under_way: int) -> None:
        """A whole small call or answer; `under_way`: how many are open."""
        self.out.append(frame)
        if under_way < MANY:
            self.wake()
        else:
            self.wake_among()

    def emit_memory(self, message: bytes) -> None:
        """A message of `leases`."""
        if not self.closed:
            self.emit(MEMORY, 0, b"", message)

    def ship(self, value: Shared) -> tuple[int, bytes]:
        """How the value goes to this peer: a flag for its frame, and the frame's body."""
        lent = self.leases.lend(value) if self.leases is not None else None
        return (0, inline(value)) if lent is None else (SHARED, lent)

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

    def _destination(self, meta: int, stream_id: int, size: int) -> memoryview | None:
        if meta & KIND_MASK != DATA:
            return None
        stream = self._stream(stream_id)
        return stream.destination(size) if stream is not None else None

    def _stream(self, stream_id: int) -> Stream | None:
        raise NotImplementedError

    def _on_placed(self, meta: int, stream_id: int, size: int) -> None:
        """As `_on_frame`, for data that is at its destination."""
        raise NotImplementedError

    def _on_hello(self, meta: int, stream_id: int, head: bytes, body: bytes) -> None:
        if meta != HELLO or stream_id:
            raise ProtocolError("the peer's first frame is not HELLO")
        answer = self._handshake.receive(head)
        if answer is not None:
            self.emit(HELLO, 0, answer)
        if self._handshake.done:
            self.ready = True
            self.decoder.max_head = MAX_HEAD
            self.decoder.max_chunk = MAX_CHUNK
            self.decoder.on_frame = self._on_frame
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
        elif meta == MEMORY and not stream_id and self.ready:
            if self.leases is not None:
                self.leases.receive(body)
            else:
                self.emit_memory(refusal(body))
        else:
            kind = meta & KIND_MASK
            name = KINDS[kind] if kind < len(KINDS) else str(kind)
            raise ProtocolError(
                f"unexpected frame {name} (flags {meta & ~KIND_MASK:#x}) on stream {stream_id}"
            )

    def borrow(self, body: bytes) -> Shared:
        """The value of a frame flagged SHARED. Raises ProtocolError."""
        if self.leases is None:
            raise ProtocolError("the peer lends memory that it was never allowed to")
        return self.leases.borrow(body)

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
        with self.lock:
            if self.closed:
                return False
            self.closed = True
        self.reason = reason
        if self.leases is not None:
            self.leases.close()
        self.decoder.stop()
        self.blocked.clear()
        self._end_calls()
        return True

    def _end_calls(self) -> None:
        raise NotImplementedError
