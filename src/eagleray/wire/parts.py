"""A value in parts: its pickle stream, then its large buffers, and before them the directory that tells their sizes.

    u8 DIRECTORY, 3 bytes of nothing, u32 count | u64 size of each part | parts, each aligned to ALIGNMENT bytes

A part is never copied out where it can be used in place: large ones are handed out as read-only views, whatever way
they have come, so that user code meets the same arrays under every load. This module does no I/O and never unpickles.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from eagleray.wire.frames import Buffer

DIRECTORY = 1
"""First byte of a value in parts; a bare pickle begins with 0x80."""
LARGE = 1 << 20
"""Bytes of a buffer from which it is handed out as a read-only view, and of a value from which memory is shared."""
ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector load."""
_HEAD = struct.Struct("<BxxxI")
_NOTHING = bytes(ALIGNMENT)


def directory(sizes: Sequence[int]) -> bytes:
    """The directory of parts of these sizes."""
    return _HEAD.pack(DIRECTORY, len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)


def read_directory(data: Buffer) -> tuple[tuple[int, ...], int]:
    """The sizes of the parts, and the size of the directory itself. Raises struct.error for half a directory."""
    _, count = _HEAD.unpack_from(data)
    return struct.unpack_from(f"<{count}Q", data, _HEAD.size), _HEAD.size + 8 * count


def places(sizes: Sequence[int], start: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of each part, where the first may begin at `start`."""
    end = start
    for size in sizes:
        begin = end + -end % ALIGNMENT
        end = begin + size
        yield begin, end


def join(parts: Sequence[Buffer]) -> bytes:
    """Directory and parts as one: the only copy of the parts that a sender makes."""
    sizes = [len(part) for part in parts]
    data: list[Buffer] = [directory(sizes)]
    before = len(data[0])
    for part, (begin, end) in zip(parts, places(sizes, before), strict=True):
        data += (_NOTHING[: begin - before], part)
        before = end
    return b"".join(data)


def split(data: Buffer) -> list[Buffer]:
    """The parts of what `join` has made. Parts of a `bytearray` are views of it, and so are large ones of `bytes`."""
    sizes, start = read_directory(data)
    view = memoryview(data)
    return [presented(view[begin:end]) for begin, end in places(sizes, start)]


def presented(part: memoryview) -> Buffer:
    """A part as it is handed out: a read-only view when it is large, else writable, and its own copy if need be."""
    if len(part) >= LARGE:
        return part.toreadonly()
    return bytearray(part) if part.readonly else part
