"""Frames: a 12-byte header, a msgpack head and a raw body; and a decoder that takes bytes as they come.

    u32 payload length | u32 stream id | u8 kind and flags, u24 head length      (little-endian)

A frame has at most `MAX_HEAD` + `MAX_CHUNK` bytes, so a slow stream never blocks its neighbours for long and a
receiver never has to grow a buffer. A body whose destination is known is put there as it comes, not kept in between.
This module knows nothing of what the kinds mean.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from eagleray.base.errors import ProtocolError

HELLO, CALL, REPLY, DATA, ERROR, CANCEL, CREDIT, PING, PONG, GOAWAY, ROOM, REPORT, MEMORY = range(13)
KINDS = (
    *("HELLO", "CALL", "REPLY", "DATA", "ERROR", "CANCEL", "CREDIT", "PING", "PONG", "GOAWAY", "ROOM"),
    "REPORT",
    "MEMORY",
)

END = 0x80
"""Flag: the last frame of its direction."""
MORE = 0x40
"""Flag of DATA: the message goes on in the next DATA frame of the stream."""
SHARED = 0x20
"""Flag of a whole CALL or REPLY: its body only tells where in shared memory the value is."""
KIND_MASK = 0x1F

MAX_CHUNK = 256 * 1024
"""Bytes of body in one frame: what uvloop reads at most at a time."""
MAX_HEAD = 256 * 1024
"""Bytes of head in one frame; the largest are HTTP header blocks."""
MAX_STREAM_ID = 0xFFFFFFFF

HEADER = struct.Struct("<III")
HEADER_SIZE = HEADER.size
COPY_LIMIT = 16 * 1024
"""Bytes of body up to which a frame is one object. bench/micro_rpc.py shows no difference between 4 and 64 KiB."""

Buffer = bytes | bytearray | memoryview
pack_header = HEADER.pack


def append_frame(out: list[Buffer], meta: int, stream_id: int, head: bytes = b"", body: Buffer = b"") -> None:
    """Appends one frame to `out`: as one object when it is small, else with `body` itself, uncopied."""
    size = len(head)
    header = pack_header(size + len(body), stream_id, meta | size << 8)
    if len(body) <= COPY_LIMIT:
        out.append(b"".join((header, head, body)))
    else:
        out.append(header + head)
        out.append(body)


class Decoder:
    """Cuts received bytes into frames and hands each to `on_frame(meta, stream_id, head, body)`.

    `meta` is kind and flags. `on_frame` may be replaced, and `stop()` called, from inside `on_frame`.

    `destination(meta, stream_id, size)` is asked for a place when a body without a head is only partly here. It
    returns as many bytes, or None; once they are filled, `on_placed(meta, stream_id, size)` is called instead of
    `on_frame`. Whoever receives may write what comes next into `rest` and say `filled(size)`; what is fed instead is
    copied there.
    """

    __slots__ = (
        "_header",
        "_missing",
        "_parts",
        "_stopped",
        "_tail",
        "destination",
        "max_chunk",
        "max_head",
        "on_frame",
        "on_placed",
        "rest",
    )

    def __init__(self, on_frame: Callable[[int, int, bytes, bytes], None]) -> None:
        self.on_frame = on_frame
        self.destination: Callable[[int, int, int], memoryview | None] = _nowhere
        self.on_placed: Callable[[int, int, int], None] = _nowhere
        self.rest: memoryview | None = None
        """What is still missing of a body that is received into its place."""
        self.max_head = MAX_HEAD
        self.max_chunk = MAX_CHUNK
        self._tail = b""
        self._header: tuple[int, int, int] | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self._stopped = False

    def stop(self) -> None:
        """Drops what was received and ignores what still comes."""
        self._stopped = True
        self._tail = b""
        self._header = None
        self._parts = []
        self.rest = None

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises ProtocolError for a frame over the limits, or what `on_frame` raises."""
        offset = 0
        if self.rest is not None:
            offset = min(len(data), len(self.rest))
            self.rest[:offset] = memoryview(data)[:offset]
            self.filled(offset)
        elif self._header is not None:
            if len(data) < self._missing:
                self._parts.append(data)
                self._missing -= len(data)
                return
            offset = self._missing
            self._complete(data[:offset])
        elif self._tail:
            data = self._tail + data
            self._tail = b""
        size = len(data)
        while not self._stopped:
            start = offset + 12
            if start > size:
                self._tail = data[offset:]
                return
            length, stream_id, meta = HEADER.unpack_from(data, offset)
            head_size = meta >> 8
            if head_size > self.max_head or not 0 <= length - head_size <= self.max_chunk:
                raise ProtocolError(
                    f"a frame of {length} bytes with a head of {head_size} is over the limits"
                )
            offset = start + length
            if offset > size:
                self._header = (meta, stream_id, head_size)
                place = None if head_size else self.destination(meta & 0xFF, stream_id, length)
                if place is None:
                    self._parts = [data[start:]]
                    self._missing = offset - size
                else:
                    place[: size - start] = memoryview(data)[start:]
                    self._missing = length
                    self.rest = place[size - start :]
                return
            body_start = start + head_size
            self.on_frame(meta & 0xFF, stream_id, data[start:body_start], data[body_start:offset])

    def filled(self, size: int) -> None:
        """The first `size` bytes of `rest` have been received."""
        assert self.rest is not None and self._header is not None
        if size < len(self.rest):
            self.rest = self.rest[size:]
            return
        meta, stream_id, _ = self._header
        self._header = self.rest = None
        self.on_placed(meta & 0xFF, stream_id, self._missing)

    def _complete(self, last: bytes) -> None:
        """The payload that was received in parts is whole; a DATA body is joined once and not copied again."""
        assert self._header is not None
        meta, stream_id, head_size = self._header
        self._parts.append(last)
        payload = b"".join(self._parts)
        self._header = None
        self._parts = []
        self.on_frame(meta & 0xFF, stream_id, payload[:head_size], payload[head_size:])


def _nowhere(meta: int, stream_id: int, size: int) -> None:
    """No body has a destination of its own."""
