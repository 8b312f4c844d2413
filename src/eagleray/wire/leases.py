"""Shared memory on one connection: what we have lent to the peer, and what we have borrowed from it. Sans-IO.

    OPEN segment, where it is    "map this"; its first message goes by the socket meanwhile
    OPENED segment, yes or no    from now on messages in it may be lent; no: never by this connection
    (a CALL or REPLY flagged SHARED)   lease number and segment, then the directory of the value's parts
    RELEASE leases               nothing here looks at them any more
    CLOSE segment                will not be used again

A lease begins with the frame that carries it and ends with its RELEASE, which the last view of it sends when it dies,
whatever became of the call: answered, rejected and sent to another replica, cancelled, failed. A connection that ends
before cannot say who still looks, so what it had lent is retired and never written again, and what it had borrowed
stays as it is until the last view has gone.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from eagleray.base.errors import ProtocolError
from eagleray.wire.frames import MAX_CHUNK
from eagleray.wire.parts import Memory, Shared, places, read_directory
from eagleray.wire.segments import Block, Segment

_LENT = struct.Struct("<QQ")
"""Lease number, segment."""


class Open(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """The segment is descriptor `fd` of process `pid`, and really it when device, inode and size are these."""

    segment: int
    pid: int
    fd: int
    device: int
    inode: int
    size: int


class Opened(msgspec.Struct, array_like=True, frozen=True, tag=1):
    segment: int
    ok: bool


class Release(msgspec.Struct, array_like=True, frozen=True, tag=2):
    leases: list[int]


class Close(msgspec.Struct, array_like=True, frozen=True, tag=3):
    segment: int


class Mapping(Protocol):
    """A peer's segment in this process."""

    @property
    def size(self) -> int: ...

    def lease(self, number: int, ended: Callable[[int], None]) -> Memory:
        """Calls `ended(number)` when neither it nor any view of it is left, in whatever thread that happens."""


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Open | Opened | Release | Close).decode


class Leases:
    """Both directions of one connection. All methods belong to its loop, but for the end of a lease.

    `emit` sends one message, `post` runs a function on the loop, from any thread, `map_` finds a peer's segment, `take`
    is for who makes values for this peer.
    """

    def __init__(
        self,
        emit: Callable[[bytes], None],
        post: Callable[[Callable[[], None]], None],
        map_: Callable[[Open], Mapping | None],
        take: Callable[[int], Block | None],
        offer: Callable[[Segment], Open],
        on_close: Callable[[Leases], None],
    ) -> None:
        self._emit = emit
        self._post = post
        self._map = map_
        self._offer = offer
        self._on_close = on_close
        self.take: Callable[[int], Block | None] | None = take
        """None once the peer has said that it cannot open what is ours."""
        self.closed = False
        self.lent: dict[int, Block] = {}
        self._last_lease = 0
        self._offered: dict[int, Segment] = {}
        self._opened: set[int] = set()
        self._mapped: dict[int, Mapping] = {}
        self._ended: deque[int] = deque()
        self._awake = False

    # ---- the lender ------------------------------------------------------------------------------------------

    def lend(self, value: Shared) -> bytes | None:
        """What to send instead of the value's parts; None: they must go by the socket."""
        block = value.memory
        if not isinstance(block, Block) or self.closed or len(value) > MAX_CHUNK - _LENT.size:
            return None
        segment = block.segment
        if segment.id in self._opened:
            self._last_lease += 1
            self.lent[self._last_lease] = block
            return _LENT.pack(self._last_lease, segment.id) + value
        if segment.id not in self._offered and self.take is not None:
            self._offered[segment.id] = segment
            self._emit(encode(self._offer(segment)))
        return None

    def forget(self, segment: Segment) -> None:
        """The segment was given up."""
        if self._offered.pop(segment.id, None) is not None and not self.closed:
            self._opened.discard(segment.id)
            self._emit(encode(Close(segment.id)))

    # ---- the borrower ----------------------------------------------------------------------------------------

    def borrow(self, data: bytes) -> Shared:
        """The value of a frame flagged SHARED; the lease is its, and its views'. Raises ProtocolError."""
        try:
            number, segment_id = _LENT.unpack_from(data)
            mapping = self._mapped[segment_id]
            directory = data[_LENT.size :]
            sizes, _ = read_directory(directory)
            size = max(end for _, end in places(sizes, 0))
        except (struct.error, KeyError, ValueError) as error:
            raise ProtocolError(f"malformed lease: {error!r}") from None
        if size > mapping.size:
            raise ProtocolError(f"lease {number} reaches beyond segment {segment_id}")
        return Shared(directory, mapping.lease(number, self._end))

    def _end(self, number: int) -> None:
        """In any thread, in the middle of anything: nothing here may wait for a lock."""
        self._ended.append(number)
        if not self._awake:
            self._awake = True
            self._post(self._release)

    def _release(self) -> None:
        self._awake = False
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        if ended and not self.closed:
            self._emit(encode(Release(ended)))

    # ---- messages --------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """A message of the peer. Raises ProtocolError."""
        message = _decoded(data)
        if type(message) is Release:
            try:
                for number in message.leases:
                    del self.lent[number]
            except KeyError:
                raise ProtocolError(f"lease {number} was released, but not lent") from None
        elif type(message) is Opened:
            self._on_opened(message)
        elif type(message) is Open:
            mapping = self._map(message)
            if mapping is not None:
                self._mapped[message.segment] = mapping
            self._emit(encode(Opened(message.segment, mapping is not None)))
        elif type(message) is Close:
            self._mapped.pop(message.segment, None)

    def _on_opened(self, message: Opened) -> None:
        segment = self._offered.get(message.segment)
        if segment is None:
            return  # it was given up meanwhile
        if message.ok:
            self._opened.add(segment.id)
        elif not segment.closed:
            self.take = None

    # ---- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The connection has ended. Idempotent."""
        if self.closed:
            return
        self.closed = True
        for block in self.lent.values():
            block.segment.retired = True
        self.lent.clear()
        self._offered.clear()
        self._opened.clear()
        self._mapped.clear()
        self._on_close(self)


def refusal(data: bytes) -> bytes:
    """The answer of who shares no memory. Raises ProtocolError for what nobody may say to it."""
    message = _decoded(data)
    if type(message) is not Open:
        raise ProtocolError(f"unexpected {type(message).__name__} of shared memory")
    return encode(Opened(message.segment, False))


def _decoded(data: bytes) -> Open | Opened | Release | Close:
    try:
        message: Open | Opened | Release | Close = _decode(data)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"malformed message about shared memory: {error}") from None
    return message
