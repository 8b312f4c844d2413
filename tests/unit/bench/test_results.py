"""Medians, ratios, promises and tables follow from the repetitions alone."""

from __future__ import annotations

import pytest
from bench import goals, table
from bench.pair import table as pair_table
from bench.pair import verdict
from bench.results import Result
from bench.runner import order
from bench.scenarios import SCENARIOS
from bench.systems import SYSTEMS


def noop(**rps: list[float]) -> Result:
    """A result of the noop scenario with these throughputs for each system."""
    machine = {"cpu": "a CPU", "cores": 2, "memory_gib": 4.0, "kernel": "6", "python": "3.11", "git": "abc"}
    repetitions = {
        name.replace("_", "-"): [{"c32_rps": value, "c1_p50_ms": 100 / value} for value in values]
        for name, values in rps.items()
    }
    settings = {"duration_s": 3.0, "warm_up_s": 1.0, "idle_s": 10.0, "repetitions": 3}
    return Result("noop", "today", machine, {"mosec": {"mosec": "1"}}, settings, repetitions)


def test_median_and_spread_ignore_order_and_outliers() -> None:
    result = noop(eagleray=[10.0, 1000.0, 20.0])
    assert result.median("eagleray", "c32_rps") == 20
    assert result.spread("eagleray", "c32_rps") == (10, 1000)


def test_ratio_is_of_medians_and_none_when_something_is_missing() -> None:
    result = noop(eagleray=[10.0, 30.0, 20.0], mosec=[5.0, 4.0, 3.0], ray=[])
    assert result.ratio("c32_rps", "eagleray", "mosec") == 5
    assert result.ratio("c32_rps", "eagleray", "ray") is None
    assert result.ratio("c100_rps", "eagleray", "mosec") is None


def test_result_survives_its_file() -> None:
    result = noop(eagleray=[10.0, 30.0], mosec=[5.0])
    result.notes.append("mosec, repetition 2: it broke")
    assert Result.from_json(result.to_json()) == result


@pytest.mark.parametrize(
    ("ours", "first", "goal"), [(1000.0, True, True), (700.0, True, False), (500.0, False, False)]
)
def test_promises_hold_by_their_direction(ours: float, first: bool, goal: bool) -> None:
    results = {"noop": noop(eagleray=[ours], uvicorn=[1000.0])}
    throughput = goals.GOALS[0]
    assert throughput.first[0].holds(results) is first
    assert throughput.goal[0].holds(results) is goal
    assert throughput.first[1].holds(results) is None  # mosec was not measured


def test_latency_promise_is_an_upper_bound() -> None:
    results = {"noop": noop(eagleray=[1000.0], uvicorn=[2500.0])}
    latency = goals.GOALS[1]
    assert latency.first[0].value(results) == pytest.approx(2.5)
    assert latency.first[0].holds(results) is False


def test_every_promise_names_what_is_measured() -> None:
    for goal in goals.GOALS:
        for check in goal.first + goal.goal:
            scenario = SCENARIOS[check.scenario]
            assert check.metric in {metric.key for metric in scenario.metrics}
            assert goals.OURS in scenario.systems
            assert not check.peer or check.peer in scenario.systems


def test_every_scenario_names_known_systems() -> None:
    for scenario in SCENARIOS.values():
        assert set(scenario.systems) <= set(SYSTEMS)


def test_table_shows_pass_fail_ratios_and_notes() -> None:
    result = noop(eagleray=[1500.0, 1400.0, 1600.0], uvicorn=[1000.0], mosec=[1000.0], ray_tuned=[])
    result.notes.append("ray-tuned, repetition 1: no 200")
    report = table.report({"noop": result})
    assert "≥ 0.6 × uvicorn raw ASGI: 1.50, pass<br>≥ 2 × mosec: 1.50, **fail**" in report
    assert "≥ 3 × Ray Serve tuned: not measured" in report
    assert "| 32 connections, req/s | 1,000 (1.50×) | 1,000 (1.50×) | - | 1,500 [1,400-1,600] |" in report
    assert "- noop: ray-tuned, repetition 1: no 200" in report


def test_readme_keeps_what_is_written_by_hand() -> None:
    text = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.insert(text, "new")
    assert once == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    assert table.insert(once, "new") == once
    with pytest.raises(ValueError, match="lacks its marks"):
        table.insert("no marks", "new")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (5.0, "5"),
        (12.34, "12.3"),
        (20.0, "20"),
        (35771.2, "35,771"),
    ],
)
def test_figures_have_three_digits(value: float | None, shown: str) -> None:
    assert table.figure(value) == shown


def test_order_rotates_through_all_systems() -> None:
    systems = list(SYSTEMS.values())
    firsts = [order(systems, repetition)[0] for repetition in range(len(systems))]
    assert firsts == systems
    assert all(sorted(s.name for s in order(systems, n)) == sorted(SYSTEMS) for n in range(9))


@pytest.mark.parametrize(
    ("ratios", "higher_is_better", "expected"),
    [
        ([1.2, 1.1, 1.3, 1.2, 1.2, 1.1, 1.01], True, "better"),
        ([1.2, 1.1, 1.3, 1.2, 1.2, 1.1, 1.2], False, "worse"),
        ([1.2, 1.1, 1.3, 1.2, 1.2, 1.2, 0.9], True, "tie"),
        ([1.01, 1.02, 1.03, 1.01, 1.02, 1.01, 1.02], True, "tie"),
        ([0.8, 0.7, 0.8, 0.8, 0.7, 0.8, 0.9], False, "better"),
        ([0.8, 0.7, 0.8], False, "(too few pairs for a verdict)"),
    ],
)
def test_pairs_must_agree_for_a_verdict(ratios: list[float], higher_is_better: bool, expected: str) -> None:
    assert verdict(ratios, higher_is_better) == expected


def test_pair_table_compares_within_pairs() -> None:
    metrics = [metric for metric in SCENARIOS["noop"].metrics if metric.key == "c32_rps"]
    pairs = [({"c32_rps": 100.0}, {"c32_rps": 150.0}), ({"c32_rps": 200.0}, {"c32_rps": 260.0})]
    assert "1.400 [1.300-1.500] (too few pairs" in pair_table("noop", metrics, pairs)
