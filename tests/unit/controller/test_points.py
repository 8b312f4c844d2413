"""Points of a second and of ten: what is written, what is filled in, and what it takes."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eagleray.controller.points import DAY_POINTS, HOUR_POINTS, ONGOING, REPLICAS, TEN, Points, quantile
from eagleray.controller.ring import NOTHING, Ring, code_of, values

BEGIN = 1_000_000


def decoded(row: tuple[int, ...] | None) -> list[float | None] | None:
    if row is None:
        return None
    return [None if code == NOTHING else round(values()[code], 1) for code in row]


@given(st.integers(0, 2900))
def test_whole_numbers_come_out_as_they_went_in(number: int) -> None:
    assert round(values()[code_of(number)]) == number


@given(st.floats(0, 1e9))
def test_other_numbers_come_out_almost_so(number: float) -> None:
    assert values()[code_of(number)] == pytest.approx(number, rel=0.0004, abs=0.001)


@given(st.integers(0, 30), st.lists(st.tuples(st.integers(1, 25), st.integers(0, 9)), max_size=12), st.data())
def test_a_ring_is_the_end_of_a_list(first: int, fills: list[tuple[int, int]], data: st.DataObject) -> None:
    ring, capacity = Ring(2, 10, first), 10
    whole: list[int] = []
    for count, code in fills:
        ring.fill(ring.next + count, ring.row([code, code]))
        whole += [code] * count
    assert ring.next == first + len(whole)
    kept = {first + index: code for index, code in enumerate(whole)}
    kept = {slot: code for slot, code in kept.items() if slot >= ring.next - capacity}
    begin = data.draw(st.integers(0, 150))
    until = data.draw(st.integers(0, 150))
    expected = [(kept[slot],) * 2 if slot in kept else None for slot in range(begin, until)]
    assert ring.read(begin, until) == expected


def test_a_second_is_written_when_no_news_of_it_can_come() -> None:
    points = Points(BEGIN, has_gauges=True)
    points.count(BEGIN, requests=5, errors=1)
    points.observe(BEGIN, (10, 20), [5, 0, 0])
    points.advance(BEGIN + 1)
    assert not points.is_settled
    points.count(BEGIN, requests=1)
    points.advance(BEGIN + 2)
    assert points.is_settled
    assert decoded(points.hour.read(BEGIN, BEGIN + 1)[0]) == [6, 1, 5, 9.5, 9.9, 0, 0, 0]


def test_what_comes_too_late_counts_for_the_oldest_open_second() -> None:
    points = Points(BEGIN, has_gauges=False)
    points.catch_up(BEGIN + 10)
    points.count(BEGIN, requests=3)
    points.catch_up(BEGIN + 20)
    rows = points.hour.read(BEGIN, BEGIN + 19)
    assert [row[0] if row else None for row in rows] == [0] * 9 + [code_of(3)] + [0] * 9


def test_gauges_stay_as_they_are_until_they_change() -> None:
    points = Points(BEGIN, has_gauges=True)
    points.set_gauge(BEGIN, REPLICAS, 2)
    points.set_gauge(BEGIN + 5, ONGOING, 7)
    points.advance(BEGIN + 8)
    points.set_gauge(BEGIN + 100, ONGOING, 3)
    points.catch_up(BEGIN + 121)
    rows = [decoded(row) for row in points.hour.read(BEGIN, BEGIN + 120)]
    ongoing = [row[5 + ONGOING] for row in rows if row]
    assert ongoing == [0] * 5 + [7] * 96 + [3] * 19, "a gauge that falls is its largest value for that second"
    assert {row[5 + REPLICAS] for row in rows if row} == {2}
    tens = [decoded(row) for row in points.day.read(BEGIN // TEN, BEGIN // TEN + 12)]
    assert [row[5 + ONGOING] for row in tens if row] == [7] * 11 + [3]


def test_ten_seconds_are_the_sum_of_ten() -> None:
    points = Points(BEGIN, has_gauges=False)
    generator = random.Random(7)
    expected = [0] * 5
    for second in range(50):
        number = generator.choice([0, 0, 1, 20])
        expected[second // TEN] += number
        if number:
            points.count(BEGIN + second, requests=number)
        points.advance(BEGIN + second)
    points.catch_up(BEGIN + 51)
    tens = points.day.read(BEGIN // TEN, BEGIN // TEN + 5)
    assert [round(values()[row[0]]) for row in tens if row] == expected


def test_what_is_older_than_a_day_is_gone() -> None:
    points = Points(BEGIN, has_gauges=False)
    points.count(BEGIN, requests=1)
    points.catch_up(BEGIN + 10 * DAY_POINTS * TEN)
    assert points.hour.next - points.hour.oldest == HOUR_POINTS
    assert points.day.next - points.day.oldest == DAY_POINTS
    assert points.day.read(BEGIN // TEN, BEGIN // TEN + 1) == [None]


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_in_its_bucket(counts: list[int], share: float) -> None:
    bounds = (1.0, 10.0, 100.0)
    found = quantile(bounds, counts, share)
    if not sum(counts):
        return
    index = next(i for i in range(4) if sum(counts[: i + 1]) >= share * sum(counts) and counts[i])
    low = [0.0, *bounds][index]
    high = [*bounds, bounds[-1]][index]
    assert low <= found <= high or math.isclose(found, low)
