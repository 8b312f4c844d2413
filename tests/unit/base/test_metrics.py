"""Counting: snapshots tell what has changed, label sets are bounded, histograms count what lies up to a bound."""

from __future__ import annotations

import pytest

from eagleray.base.metrics import FOLDED, OVERFLOW, Registry, Snapshot


def values(snapshots: list[Snapshot]) -> dict[str, dict[tuple[str, ...], float]]:
    return {one.name: {sample.labels: sample.value for sample in one.samples} for one in snapshots}


def test_a_snapshot_tells_totals_of_what_has_changed() -> None:
    registry = Registry()
    requests = registry.counter("requests", "Requests.", "route")
    requests.value("/a").inc()
    requests.value("/b").inc(2)
    assert values(registry.collect()) == {"requests": {("/a",): 1.0, ("/b",): 2.0}}
    assert registry.collect() == []
    requests.value("/b").inc()
    assert values(registry.collect()) == {"requests": {("/b",): 3.0}}
    assert values(registry.collect(everything=True)) == {"requests": {("/a",): 1.0, ("/b",): 3.0}}


def test_a_histogram_counts_what_lies_up_to_each_bound() -> None:
    registry = Registry()
    series = registry.histogram("latency", "Latency.", bounds=(1, 10)).distribution()
    for value in (0.5, 1, 5, 10, 11):
        series.observe(value)
    ((sample,),) = [one.samples for one in registry.collect()]
    assert (sample.counts, sample.value) == ([2, 2, 1], 27.5)
    assert registry.collect() == []


def test_label_sets_are_bounded_and_those_beyond_are_counted_together() -> None:
    registry = Registry()
    metric = registry.counter("requests", "Requests.", "route", "code", most=2)
    for number in range(5):
        metric.value(f"/{number}", "200").inc()
    assert values(registry.collect()) == {
        "requests": {("/0", "200"): 1.0, ("/1", "200"): 1.0, (OVERFLOW, OVERFLOW): 3.0},
        FOLDED: {("requests",): 3.0},
    }
    assert metric.folded == 3


def test_a_gauge_may_be_asked_of_a_function() -> None:
    registry = Registry()
    depth = [3.0]
    metric = registry.gauge("depth", "Depth.", "queue")
    metric.read(lambda: depth[0], "a")
    assert values(registry.collect()) == {"depth": {("a",): 3.0}}
    assert registry.collect() == []
    depth[0] = 4.0
    assert values(registry.collect()) == {"depth": {("a",): 4.0}}
    metric.forget("a")
    assert registry.collect(everything=True) == []


def test_a_name_has_one_meaning() -> None:
    registry = Registry()
    assert registry.counter("a", "A.", "x") is registry.counter("a", "A.", "x")
    with pytest.raises(ValueError, match="exists as a counter"):
        registry.gauge("a", "A.", "x")
    with pytest.raises(ValueError, match="has the labels"):
        registry.counter("a", "A.", "x").value("1", "2")


def test_functions_beyond_the_bound_are_added_up() -> None:
    registry = Registry()
    metric = registry.gauge("calls", "Calls.", "route", most=1)
    for number in range(4):
        metric.read(lambda number=number: float(10**number), str(number))  # type: ignore[misc]
    metric.read(lambda: 7.0, "1")
    metric.forget("3")
    (told, _) = registry.collect()
    assert {sample.labels: sample.value for sample in told.samples} == {("0",): 1.0, (OVERFLOW,): 107.0}


def test_a_counter_beyond_the_bound_that_is_forgotten_stays_in_the_sum_and_makes_room() -> None:
    registry = Registry()
    metric = registry.counter("requests", "Requests.", "route", most=2)
    for number in range(4):
        metric.read(lambda number=number: float(10**number), str(number))  # type: ignore[misc]
    assert values(registry.collect())["requests"] == {("0",): 1.0, ("1",): 10.0, (OVERFLOW,): 1100.0}
    for route in ("0", "1", "2"):
        assert ((route,) in metric) == (route != "2")
        metric.forget(route)
        assert (route,) not in metric
    assert values(registry.collect(everything=True))["requests"] == {(OVERFLOW,): 1100.0}
    metric.value("new").inc()
    assert values(registry.collect())["requests"] == {("new",): 1.0}
