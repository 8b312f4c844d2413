"""Shared memory without memory: segments are bytearrays, connections are queues of messages, time is a number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eagleray.wire.leases import Leases, Open
from eagleray.wire.parts import Memory, Shared, share
from eagleray.wire.segments import Block, Segment, SegmentPool


class Store:
    """A memory file of the lender."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.closed = False

    @property
    def view(self) -> memoryview:
        assert not self.closed
        return memoryview(self.data)

    def close(self) -> None:
        self.closed = True


class Lease:
    """What a borrower holds."""

    def __init__(self, data: bytearray, number: int, ended: Callable[[int], None]) -> None:
        self._data, self._number, self._ended = data, number, ended

    @property
    def view(self) -> memoryview:
        return memoryview(self._data)

    def __del__(self) -> None:
        self._ended(self._number)


class Mapping:
    def __init__(self, data: bytearray) -> None:
        self.size = len(data)
        self._data = data

    def lease(self, number: int, ended: Callable[[int], None]) -> Memory:
        return Lease(self._data, number, ended)


class Owner:
    """A process with a pool. `reachable=False`: nobody can open its memory."""

    def __init__(self, limit_bytes: int = 1 << 30, *, reachable: bool = True) -> None:
        self.now = 0.0
        self.made: dict[int, Store] = {}
        self.reachable = reachable
        self.connections: list[Leases] = []
        self.closed: list[int] = []
        self.pool = SegmentPool(limit_bytes, Store, self._on_closed)

    def take(self, size: int) -> Block | None:
        return self.pool.take(size, self.now)

    def value(self, content: bytes) -> Shared:
        """A value whose one part is `content`, in this pool."""
        shared = share([content], self.take)
        assert shared is not None
        return shared

    def offer(self, segment: Segment) -> Open:
        assert isinstance(segment.store, Store)
        self.made[segment.id] = segment.store
        return Open(segment.id, 1, segment.id, 0, 0, segment.capacity)

    def _on_closed(self, segment: Segment) -> None:
        self.closed.append(segment.id)
        for leases in self.connections:
            leases.forget(segment)


class Link:
    """A connection on which `owner` lends and the other side borrows; nothing moves until `run`."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.there: deque[bytes] = deque()
        self.back: deque[bytes] = deque()
        self.posted: deque[Callable[[], None]] = deque()
        borrower = Owner()
        self.lender = Leases(
            self.there.append,
            self.posted.append,
            map_nothing,
            owner.take,
            owner.offer,
            lambda _: None,
        )
        self.borrower = Leases(
            self.back.append,
            self.posted.append,
            self._map,
            borrower.take,
            borrower.offer,
            lambda _: None,
        )
        owner.connections.append(self.lender)

    def _map(self, offer: Open) -> Mapping | None:
        return Mapping(self.owner.made[offer.fd].data) if self.owner.reachable else None

    def step(self) -> bool:
        """Moves one message, or does one thing that was posted."""
        if self.posted:
            self.posted.popleft()()
        elif self.there:
            self.borrower.receive(self.there.popleft())
        elif self.back:
            self.lender.receive(self.back.popleft())
        else:
            return False
        return True

    def run(self) -> None:
        while self.step():
            pass

    def send(self, value: Shared) -> Shared | None:
        """The value as the borrower gets it; None: by the socket."""
        lent = self.lender.lend(value)
        return None if lent is None else self.borrower.borrow(lent)

    def close(self) -> None:
        self.lender.close()
        self.borrower.close()
        self.there.clear()
        self.back.clear()


def map_nothing(offer: Open) -> None:
    """Only the owner lends."""
