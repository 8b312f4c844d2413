"""What is still to be sent, on virtual time."""

from __future__ import annotations

import math

from eagleray.loadtest.arrivals import Schedule, constant


def left(schedule: Schedule) -> list[float]:
    times = []
    while schedule.next != math.inf:
        times.append(schedule.next)
        schedule.advance()
    return times


def test_an_open_loop_ends_with_its_time() -> None:
    schedule = Schedule(100.0, 101.0, 103.0, None, constant(2.0))
    assert left(schedule) == [100.0, 100.5, 101.0, 101.5, 102.0, 102.5]
    assert schedule.is_exhausted(103.0) and not schedule.is_exhausted(102.9)


def test_an_open_loop_ends_after_so_many_that_count() -> None:
    schedule = Schedule(100.0, 101.0, 200.0, 3, constant(2.0))
    assert left(schedule) == [100.0, 100.5, 101.0, 101.5, 102.0]
    assert schedule.is_exhausted(102.0)


def test_a_closed_loop_takes_until_its_time_is_up() -> None:
    schedule = Schedule(100.0, 101.0, 103.0, None, None)
    assert schedule.take(100.0) and schedule.take(102.9) and not schedule.take(103.0)
    assert schedule.is_exhausted(103.0) and not schedule.is_exhausted(102.9)


def test_a_closed_loop_does_not_count_its_warm_up() -> None:
    schedule = Schedule(100.0, 101.0, 200.0, 2, None)
    assert [schedule.take(at) for at in (100.0, 100.5, 101.0, 101.5, 102.0)] == [True] * 4 + [False]
    assert schedule.is_exhausted(102.0)
