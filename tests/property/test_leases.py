"""Random lives of lent memory: what a borrower sees never changes under it, and in the end everything is back."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shared_memory import Link, Owner

from eagleray.wire.frames import MAX_CHUNK
from eagleray.wire.parts import Shared, share

SIZES = (MAX_CHUNK + 1, 300_000, 600_000, 1_000_000)
seeds = st.integers(0, 2**32)


class Play:
    """A sender with two receivers; each value is filled with one byte, which its receivers look for."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.owner = Owner(limit_bytes=4_000_000)
        self.links = [Link(self.owner), Link(self.owner)]
        self.calls: list[Shared] = []
        self.views: list[tuple[Shared, int]] = []
        self.fill = 0

    def act(self) -> None:
        what = self.random.random()
        if what < 0.25:
            self.fill = self.fill % 255 + 1
            value = share([bytes([self.fill]) * self.random.choice(SIZES)], self.owner.take)
            if value is not None:
                self.calls.append(value)
        elif what < 0.55 and self.calls:
            value = self.random.choice(self.calls)
            received = self.random.choice(self.links).send(value)
            if received is not None:
                self.views.append((received, value.memory.view[0]))
        elif what < 0.65 and self.calls:
            self.calls.pop(self.random.randrange(len(self.calls)))
        elif what < 0.8 and self.views:
            self.views.pop(self.random.randrange(len(self.views)))
        elif what < 0.97:
            self.random.choice(self.links).step()
        elif what < 0.985:
            self.owner.now += 10.0
            self.owner.pool.expire(self.owner.now, 5.0)
        else:
            index = self.random.randrange(2)
            self.links[index].close()
            self.owner.connections.remove(self.links[index].lender)
            self.links[index] = Link(self.owner)

    def check(self) -> None:
        for received, fill in self.views:
            view = received.memory.view
            size = int.from_bytes(received[8:16], "little")
            assert view[0] == view[size // 2] == view[size - 1] == fill
        pool = self.owner.pool
        assert pool.total_bytes == sum(s.capacity for s in pool.segments.values()) <= pool.limit_bytes
        assert 0 <= pool.leased <= len(pool.segments)
        assert not any(segment.retired or segment.closed for segment in pool.free)


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_views_never_change_and_everything_comes_back(seed: int) -> None:
    play = Play(seed)
    for _ in range(150):
        play.act()
        play.check()
    play.calls.clear()
    play.views.clear()
    for link in play.links:
        link.run()
        assert not link.lender.lent
    assert play.owner.pool.leased == 0
    assert not play.owner.pool.expire(play.owner.now, 0.0)
    for link in play.links:
        link.run()
        assert not link.borrower._mapped
