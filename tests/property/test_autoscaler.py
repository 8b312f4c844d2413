"""Whatever the load: aggregation is the integral of step functions, bounds and delays hold, constant load settles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eagleray.reconcile.autoscaler import Autoscaler
from eagleray.reconcile.load import LoadWindow, Sample
from eagleray.reconcile.scaling import ScalingRules

# Whole and half seconds: sums of them are exact.
MOMENTS = st.integers(0, 40).map(lambda half: half / 2)
TOLD = st.lists(st.tuples(MOMENTS, st.sampled_from("abc"), st.integers(0, 9)), max_size=25).map(sorted)


@given(TOLD, st.integers(1, 30))
def test_aggregation_is_that_of_the_summed_step_functions(
    told: list[tuple[float, str, int]], look_back: int
) -> None:
    now = 20.0
    window = LoadWindow(float(look_back), 100.0)
    for at, source, value in told:
        window.add(source, Sample(at, value, 0, 0))
        window.prune(at)
    window.prune(now)
    opens = max(now - look_back, min((at for at, _, _ in told), default=now))

    def level(moment: float) -> int:
        last: dict[str, int] = {}
        for at, source, value in told:
            if at <= moment:
                last[source] = value
        return sum(last.values())

    steps = [opens + half / 2 for half in range(int((now - opens) * 2))]
    levels = [level(moment) for moment in steps]
    mean = sum(levels) / len(levels) if levels else float(level(now))
    assert window.aggregate(now, "mean") == mean or abs(window.aggregate(now, "mean") - mean) < 1e-9
    assert window.aggregate(now, "max") == max([*levels, level(now)])
    assert window.aggregate(now, "min") == min([*levels, level(now)])


RULES = st.builds(
    ScalingRules,
    low=st.integers(0, 3),
    high=st.integers(3, 12),
    target_ongoing=st.floats(0.1, 7),
    interval_s=st.just(1.0),
    look_back_s=st.floats(1, 20),
    up_factor=st.floats(0.1, 3),
    down_factor=st.floats(0.1, 1),
    up_delay_s=st.floats(0, 10),
    down_delay_s=st.floats(0, 10),
    zero_delay_s=st.floats(0, 10),
    aggregation=st.sampled_from(["mean", "max", "min"]),
)


@given(RULES, st.integers(1, 60), st.integers(0, 12))
def test_constant_load_settles_and_stays(rules: ScalingRules, load: int, start: int) -> None:
    scaler, count, counts = Autoscaler(rules), min(max(start, rules.low), rules.high), []
    for second in range(400):
        scaler.tell("proxy", Sample(float(second), 0, load, 0))
        wish = scaler.decide(float(second), count, count, bounds=(rules.low, rules.high))
        count = wish.num_replicas if wish is not None else count
        counts.append(count)
    assert len(set(counts[-100:])) == 1
    enough = load / rules.target_ongoing
    assert counts[-1] >= min(enough - 1e-6, rules.high) or counts[-1] == rules.high


@given(RULES, st.lists(st.integers(0, 60), min_size=1, max_size=80))
def test_bounds_and_delays_hold(rules: ScalingRules, loads: list[int]) -> None:
    scaler, count = Autoscaler(rules), rules.low
    changed_at = float("-inf")
    for second, load in enumerate(loads):
        now = float(second)
        scaler.tell("proxy", Sample(now, load, 0, 0))
        wish = scaler.decide(now, count, count, bounds=(rules.low, rules.high))
        if wish is None:
            continue
        assert rules.low <= wish.num_replicas <= rules.high and wish.num_replicas != count
        if count:
            is_last = count == 1 and wish.num_replicas == 0
            down = rules.zero_delay_s if is_last else rules.down_delay_s
            assert (
                now - changed_at >= (rules.up_delay_s if wish.num_replicas > count else down) or second == 0
            )
            assert wish.num_replicas > 0 or is_last, "the last replica goes alone"
        count, changed_at = wish.num_replicas, now
