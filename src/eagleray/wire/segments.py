"""Which memory segments of a process are free: pure bookkeeping of a bounded pool, with neither clock nor memory.

A segment is taken as a whole by one message. The `Block` that `take` returns *is* the hold on it: the call that may
have to be sent again and every connection that has lent it refer to the Block, and when the last of them lets go the
segment is free. There is no counter that could go wrong. Blocks may die in any thread and in the middle of anything, so
all they do is to append to a deque; whoever uses the pool next looks there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

MAX_SEGMENTS = 128
"""Segments of one process: each costs it a descriptor, and every peer a mapping."""


class Store(Protocol):
    """The memory behind a segment."""

    @property
    def view(self) -> memoryview: ...
    def close(self) -> None: ...


class Segment:
    """A piece of memory that peers may have mapped. `id` is never used again."""

    __slots__ = ("capacity", "closed", "free_since", "id", "retired", "store")

    def __init__(self, segment_id: int, capacity: int, store: Store) -> None:
        self.id = segment_id
        self.capacity = capacity
        self.store = store
        self.free_since = 0.0
        self.retired = False
        """It must not be used again: somebody who cannot be asked any more may still look at it."""
        self.closed = False


class Block:
    """A hold on a segment; the last reference to it is the hold."""

    __slots__ = ("_let_go", "segment")

    def __init__(self, segment: Segment, let_go: Callable[[Segment], None]) -> None:
        self.segment = segment
        self._let_go = let_go

    @property
    def view(self) -> memoryview:
        """All of the segment, writable."""
        return self.segment.store.view

    def __del__(self) -> None:
        self._let_go(self.segment)


class SegmentPool:
    """At most `limit_bytes` in at most `MAX_SEGMENTS` segments. `make(capacity)` may raise OSError: no memory then.

    `on_closed` is told of every segment that is given up. Not thread-safe, but for the death of Blocks.
    """

    def __init__(
        self, limit_bytes: int, make: Callable[[int], Store], on_closed: Callable[[Segment], None]
    ) -> None:
        self.limit_bytes = limit_bytes
        self.total_bytes = 0
        self.segments: dict[int, Segment] = {}
        self.free: list[Segment] = []
        """Most recently used last: its pages are warm, in every process."""
        self._make = make
        self._on_closed = on_closed
        self._let_go: deque[Segment] = deque()
        self._last_id = 0

    @property
    def leased(self) -> int:
        """Segments that somebody holds."""
        return len(self.segments) - len(self.free) - len(self._let_go)

    def take(self, size: int, now: float) -> Block | None:
        """A segment of at least `size` bytes, or None: the limit is reached, or the system gives no more."""
        self.collect(now)
        best: Segment | None = None
        for segment in self.free:
            if segment.capacity >= size and (best is None or segment.capacity <= best.capacity):
                best = segment
        capacity = capacity_for(size)
        if best is None or best.capacity > 2 * capacity:
            made = self._add(capacity, evict=best is None)
            if made is not None:
                return Block(made, self._let_go.append)
        if best is None:
            return None
        self.free.remove(best)
        return Block(best, self._let_go.append)

    def _add(self, capacity: int, *, evict: bool) -> Segment | None:
        spare = sum(segment.capacity for segment in self.free) if evict else 0
        if self.total_bytes - spare + capacity > self.limit_bytes:
            return None
        if len(self.segments) - (len(self.free) if evict else 0) >= MAX_SEGMENTS:
            return None
        while self.total_bytes + capacity > self.limit_bytes or len(self.segments) >= MAX_SEGMENTS:
            self._close(self.free.pop(0))
        try:
            store = self._make(capacity)
        except OSError:
            return None
        self._last_id += 1
        segment = self.segments[self._last_id] = Segment(self._last_id, capacity, store)
        self.total_bytes += capacity
        return segment

    def collect(self, now: float) -> None:
        """Takes back what was let go."""
        while self._let_go:
            segment = self._let_go.popleft()
            if segment.retired:
                self._close(segment)
            else:
                segment.free_since = now
                self.free.append(segment)

    def expire(self, now: float, idle_s: float) -> bool:
        """Gives up what nobody has used for `idle_s`; returns whether anything is left."""
        self.collect(now)
        kept = [segment for segment in self.free if now - segment.free_since < idle_s]
        idle = [segment for segment in self.free if now - segment.free_since >= idle_s]
        self.free = kept
        for segment in idle:
            self._close(segment)
        return bool(self.segments)

    def _close(self, segment: Segment) -> None:
        del self.segments[segment.id]
        self.total_bytes -= segment.capacity
        segment.closed = True
        segment.store.close()
        self._on_closed(segment)


def capacity_for(size: int) -> int:
    """The capacity made for a message: one of four steps in each doubling, so that most are used for many sizes."""
    step = 1 << max(16, (size - 1).bit_length() - 3)
    return -(-size // step) * step
