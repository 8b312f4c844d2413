"""The pool of memory segments: bounded, reused while warm, given up when idle, never reused while somebody may look."""

from __future__ import annotations

import pytest
from tests.shared_memory import Owner

from eagleray.wire.segments import MAX_SEGMENTS, capacity_for

MB = 1 << 20


def test_a_segment_is_used_again_once_the_last_reference_has_gone() -> None:
    owner = Owner()
    block = owner.take(MB)
    assert block is not None and len(block.view) >= MB
    first, also = block.segment.id, block
    del block
    other = owner.take(MB)
    assert other is not None and other.segment.id != first and owner.pool.leased == 2
    del also
    again = owner.take(MB)
    assert again is not None and again.segment.id == first


def test_the_most_recently_used_segment_comes_first() -> None:
    owner = Owner()
    blocks = [owner.take(MB) for _ in range(3)]
    blocks.reverse()
    while blocks:
        last = blocks.pop()
        assert last is not None
        used = last.segment.id
        del last
    found = owner.take(MB)
    assert found is not None and found.segment.id == used


def test_the_smallest_segment_that_fits_is_taken_and_a_far_too_large_one_only_at_the_limit() -> None:
    owner = Owner(limit_bytes=30 * MB)
    for size in (16 * MB, 4 * MB):
        owner.take(size)
    small = owner.take(3 * MB)
    assert small is not None and small.segment.capacity == 4 * MB
    own = owner.take(MB)
    assert own is not None and own.segment.capacity == MB
    rest = owner.take(9 * MB)
    assert rest is not None and rest.segment.capacity == 16 * MB
    large = owner.take(2 * MB)
    assert large is not None and owner.pool.total_bytes <= 30 * MB


def test_the_limit_holds_and_free_segments_make_room() -> None:
    owner = Owner(limit_bytes=10 * MB)
    assert owner.take(11 * MB) is None
    held = [owner.take(4 * MB), owner.take(4 * MB)]
    assert None not in held and owner.take(4 * MB) is None
    held.clear()
    whole = owner.take(10 * MB)
    assert whole is not None and sorted(owner.closed) == [1, 2] and owner.pool.total_bytes == 10 * MB
    many = Owner()
    blocks = [many.take(MB) for _ in range(MAX_SEGMENTS)]
    assert None not in blocks and many.take(MB) is None


def test_nothing_is_closed_for_a_message_that_does_not_fit_anyway() -> None:
    owner = Owner(limit_bytes=10 * MB)
    held = owner.take(6 * MB)
    owner.take(4 * MB)
    assert held is not None and owner.take(5 * MB) is None and owner.closed == []


def test_idle_segments_are_given_up_and_held_ones_are_not() -> None:
    owner = Owner()
    held = owner.take(MB)
    owner.take(2 * MB)
    owner.now = 4.0
    assert owner.pool.expire(4.0, 5.0) and owner.closed == []
    assert owner.pool.expire(9.0, 5.0) and owner.closed == [2]
    del held
    assert owner.pool.expire(20.0, 5.0), "it was in use until now"
    assert not owner.pool.expire(25.0, 5.0)
    assert owner.pool.total_bytes == 0 and not owner.pool.segments


def test_a_retired_segment_is_never_used_again() -> None:
    owner = Owner()
    block = owner.take(MB)
    assert block is not None
    block.segment.retired = True
    del block
    other = owner.take(MB)
    assert other is not None and other.segment.id == 2 and owner.closed == [1]


def test_a_system_without_memory_is_no_error() -> None:
    owner = Owner()

    def make(size: int) -> object:
        raise OSError(24, "Too many open files")

    owner.pool._make = make  # type: ignore[assignment]
    assert owner.take(MB) is None and not owner.pool.segments and owner.pool.total_bytes == 0


@pytest.mark.parametrize("size", [1, MB - 1, MB, MB + 1, 10_000_000, 123_456_789, 1 << 30])
def test_capacities_are_a_little_more_than_needed(size: int) -> None:
    capacity = capacity_for(size)
    assert size <= capacity <= max(1.25 * size, 1 << 16) and capacity % 65536 == 0
    assert capacity_for(capacity) == capacity
