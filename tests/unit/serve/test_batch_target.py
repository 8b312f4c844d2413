"""A latency target in virtual time: what is learned, what is kept, and that it is never worse than fixed settings."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.batch_simulation import Outcome, linear, poisson, simulate

from eagleray.serve.batch_policy import FixedPolicy
from eagleray.serve.batch_target import ArrivalRate, TargetPolicy, TimeModel, Trial

TARGET_S = 0.05
PLANNED_FOR_S = 0.051
"""The policy keeps a millisecond for the way to a client, which there is not in virtual time."""
GRID = [(size, wait_s) for size in (1, 8, 32, 64) for wait_s in (0.0, 0.005, 0.02)]
Model = Callable[[random.Random, float, int], float]


def learned(model: Model, rate: float, seconds: float = 12, seed: int = 1, concurrency: int = 1) -> Outcome:
    policy = TargetPolicy(PLANNED_FOR_S, 64, 0.02, concurrency)
    return simulate(policy, poisson(rate), model, seconds, seed=seed, concurrency=concurrency)


def fixed(
    size: int, wait_s: float, model: Model, rate: float, seconds: float = 12, concurrency: int = 1
) -> Outcome:
    policy = FixedPolicy(size, wait_s)
    return simulate(policy, poisson(rate), model, seconds, seed=1, concurrency=concurrency)


# ---- the model of time -------------------------------------------------------------------------------------------


def feed(model: TimeModel, fixed_s: float, per_item_s: float, count: int, chance: random.Random) -> None:
    for _ in range(count):
        size = chance.randint(1, 40)
        seconds = fixed_s + per_item_s * size
        if chance.random() < 0.1:
            seconds += 0.1  # something else had the machine
        model.observe(size, seconds * chance.uniform(0.98, 1.02))


def test_both_parts_of_the_time_are_found_through_noise_and_outliers() -> None:
    model = TimeModel()
    feed(model, 0.008, 0.0004, 64, random.Random(3))
    assert model.per_item_s == pytest.approx(0.0004, rel=0.1)
    assert model.fixed_s == pytest.approx(0.008, rel=0.1)
    assert model.largest(0.028) == pytest.approx(50, rel=0.1)


def test_another_model_is_learned_within_a_few_batches() -> None:
    model, chance = TimeModel(), random.Random(3)
    feed(model, 0.008, 0.0004, 64, chance)
    feed(model, 0.016, 0.0008, 12, chance)
    assert model.predict(20) == pytest.approx(0.032, rel=0.15)
    feed(model, 0.004, 0.0001, 12, chance)
    assert model.predict(20) == pytest.approx(0.006, rel=0.15)


def test_batches_of_one_size_scale_what_was_known() -> None:
    model, chance = TimeModel(), random.Random(3)
    feed(model, 0.010, 0.001, 64, chance)
    for _ in range(10):
        model.observe(10, 0.040)  # twice as long as before
    assert model.predict(10) == pytest.approx(0.040, rel=0.05)
    assert model.predict(30) == pytest.approx(0.080, rel=0.25)


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 100)), min_size=1, max_size=150))
def test_no_sample_makes_it_predict_nonsense(samples: list[tuple[int, float]]) -> None:
    model = TimeModel()
    for size, seconds in samples:
        model.observe(size, seconds)
    assert model.per_item_s >= 0
    assert model.fixed_s >= -1e-9
    longest = max(seconds for _, seconds in samples)
    assert 0 <= model.predict(1) <= model.predict(1000) + 1e-9
    assert model.predict(1) <= longest + 1e-6
    assert model.largest(-1.0) == 0


def test_the_rate_of_arrivals_follows() -> None:
    rate = ArrivalRate()
    for step in range(1000):
        rate.note(1, step / 500)
    assert rate.per_s == pytest.approx(500, rel=0.1)
    rate.note(1, 100.0)
    assert rate.per_s < 1


def test_waiting_is_used_only_while_it_shortens_the_mean() -> None:
    trial = Trial()
    waits = []
    for _ in range(40 * 8):
        waits.append(trial.waits)
        trial.observe(10, 10 * (0.010 if trial.waits else 0.020))
    assert sum(waits[-160:]) > 130
    for _ in range(40 * 8):
        waits.append(trial.waits)
        trial.observe(10, 10 * (0.030 if trial.waits else 0.020))
    assert sum(waits[-160:]) < 30


# ---- against fixed settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        (linear(0.008, 0.0004), (50, 400, 1200, 1500)),
        (linear(0.016, 0.0008), (50, 200, 310)),
        (linear(0.002, 0.001), (50, 400, 800)),
    ],
    ids=["8 ms + 0.4 ms n", "16 ms + 0.8 ms n", "2 ms + 1 ms n"],
)
def test_as_many_are_in_time_as_with_the_best_fixed_setting(model: Model, rates: tuple[int, ...]) -> None:
    for rate in rates:
        best = max(fixed(size, wait_s, model, rate).share_within(TARGET_S, 2) for size, wait_s in GRID)
        assert learned(model, rate).share_within(TARGET_S, 2) >= min(0.998, best) - 0.003, rate


def test_with_two_batches_at_once_it_beats_every_fixed_setting() -> None:
    model, rate = linear(0.008, 0.0004), 3200
    best = max(
        fixed(size, wait_s, model, rate, concurrency=2).share_within(TARGET_S, 2) for size, wait_s in GRID
    )
    assert learned(model, rate, concurrency=2).share_within(TARGET_S, 2) > best + 0.01


@pytest.mark.parametrize("rate", [5, 50, 200, 500])
def test_the_mean_is_never_worse_than_without_waiting(rate: float) -> None:
    for model in (linear(0.008, 0.0004), linear(0.02, 0.0002), linear(0.002, 0.001)):
        assert learned(model, rate).mean_s <= 1.03 * fixed(64, 0.0, model, rate).mean_s


def test_a_model_that_changes_is_followed() -> None:
    def model(chance: random.Random, now: float, size: int) -> float:
        parts = (0.008, 0.0004) if now < 6 else (0.016, 0.0008) if now < 12 else (0.004, 0.0004)
        return linear(*parts)(chance, now, size)

    def arrivals(chance: random.Random, now: float) -> float:
        return chance.expovariate(1400 if now < 6 else 300 if now < 12 else 1800)

    policy = TargetPolicy(PLANNED_FOR_S, 64, 0.02)
    outcome = simulate(policy, arrivals, model, 18)
    assert outcome.share_within(TARGET_S, 1) > 0.995
    assert policy.time.predict(20) == pytest.approx(0.012, rel=0.1)


def test_overload_leaves_most_of_the_capacity_to_those_who_can_be_in_time() -> None:
    model = linear(0.008, 0.0004)
    outcome = learned(model, 2000)
    in_time = sum(latency <= TARGET_S for latency in outcome.latencies) / 12
    assert in_time > 900
    first_come = fixed(64, 0.0, model, 2000)
    assert sum(latency <= TARGET_S for latency in first_come.latencies) / 12 < 100


def test_after_a_stall_only_those_are_late_who_waited_through_it() -> None:
    def model(chance: random.Random, now: float, size: int) -> float:
        return 1.0 if 4 < now < 4.02 else linear(0.008, 0.0004)(chance, now, size)

    assert learned(model, 1300).share_within(TARGET_S, 5.2) > 0.8
    worst = fixed(64, 0.0, model, 1300)
    assert [latency for latency, end in zip(worst.latencies, worst.ended, strict=True) if 5.2 < end < 6]


def test_late_items_are_not_passed_over_for_ever() -> None:
    outcome = learned(linear(0.008, 0.0004), 1900, seconds=10)
    served = len(outcome.latencies)
    assert served > 18_000
    # Two thirds of what comes can be served in time; the others wait, in turn, and not until the end.
    late = [
        (end - latency, end)
        for latency, end in zip(outcome.latencies, outcome.ended, strict=True)
        if latency > TARGET_S
    ]
    assert sum(end < 10 for _, end in late) > 1000


def test_a_batch_larger_than_the_machine_takes_is_found_and_left() -> None:
    def cliff(chance: random.Random, now: float, size: int) -> float:
        return (0.005 + 0.0001 * size) * (1 if size <= 24 else 20)

    policy = TargetPolicy(PLANNED_FOR_S, 256, 0.02)
    outcome = simulate(policy, poisson(1500), cliff, 12)
    assert outcome.share_within(TARGET_S, 3) > 0.9
