"""The search for the highest rate, against servers of all capacities, with and without noise."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from eagleray.loadtest.search import HIGHEST, LOWEST, PRECISION, Search

MOST_TRIALS = 120

capacities = st.floats(0.2, 5e5)
starts = st.floats(0.001, 1e7)


@given(capacities, starts)
def test_it_comes_close_from_below(capacity: float, start: float) -> None:
    search = Search(start)
    trials = 0
    while search.rate is not None:
        assert LOWEST <= search.rate <= HIGHEST
        search.tell(search.rate <= capacity)
        trials += 1
    assert trials <= MOST_TRIALS
    assert search.best is not None and capacity / (1 + PRECISION) <= search.best <= capacity


@given(capacities, starts, st.integers(0, 2**32), st.floats(0, 0.5))
def test_noise_never_makes_it_too_high_nor_endless(
    capacity: float, start: float, seed: int, noise: float
) -> None:
    draw = random.Random(seed)
    search = Search(start)
    trials = 0
    while search.rate is not None:
        search.tell(search.rate <= capacity and draw.random() >= noise)
        trials += 1
    assert trials <= 4 * MOST_TRIALS
    assert search.best is None or search.best <= capacity


@given(starts)
def test_nothing_holds(start: float) -> None:
    search = Search(start)
    while search.rate is not None:
        search.tell(False)
    assert search.best is None and search.low is None


def test_one_failure_is_tried_again_and_one_success_is_proved() -> None:
    search = Search(10.0)
    search.tell(False)
    assert search.rate == 10.0
    search.tell(True)
    assert search.rate == 10.0, "one against one decides nothing"
    search.tell(True)
    assert search.rate == 20.0 and search.low == 10.0
    for _ in range(2):
        search.tell(False)
    assert search.high == 20.0
    while search.high / search.low > 1 + PRECISION:  # type: ignore[operator]
        assert search.rate is not None and search.rate < 20.0
        search.tell(True)
    assert search.rate == search.low and search.best is None, "what holds has to hold twice more"
    search.tell(True)
    search.tell(True)
    assert search.rate is None and search.best == search.low


def test_what_held_by_luck_is_given_up() -> None:
    search = Search(10.0)
    search.tell(True)
    for _ in range(2):
        search.tell(False)
    while search.low == 10.0 and search.rate != 10.0:
        search.tell(False)
    for _ in range(2):
        search.tell(False)
    assert search.rate is not None and search.rate < 10.0
    search.tell(True)
    search.tell(True)
    assert search.best is not None and search.best < 10.0
