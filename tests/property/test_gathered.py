"""Observations that gather are counted like those that are counted one by one, whoever settles when."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from eagleray.base.metrics import Distribution, Gathered

BOUNDS = (0.5, 1.0, 2.0, 5.0)
VALUES = st.lists(st.sampled_from((*BOUNDS, 0.0, 0.7, 3.0, 9.0)) | st.floats(0.0, 10.0), max_size=60)


@given(st.lists(VALUES, max_size=6))
def test_bursts_are_counted_as_each_by_itself(bursts: list[list[float]]) -> None:
    single, gathered = Distribution(BOUNDS), Gathered(BOUNDS)
    for burst in bursts:
        for value in burst:
            single.observe(value)
            gathered.values.append(value)
        gathered.settle()
    assert gathered.counts == single.counts and gathered.total() == single.count
    assert abs(gathered.sum - single.sum) < 1e-6


def test_nothing_is_lost_or_counted_twice_while_threads_settle() -> None:
    series, done = Gathered(BOUNDS), threading.Event()

    def settle() -> None:
        while not done.is_set():
            series.settle()

    threads = [threading.Thread(target=settle) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(50_000):
        series.values.append(float(number % 3))
    done.set()
    for thread in threads:
        thread.join()
    assert series.total() == 50_000 == sum(series.counts)
    assert series.sum == sum(number % 3 for number in range(50_000))
