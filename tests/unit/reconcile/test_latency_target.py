"""The latency policy on virtual time: traces of arrivals against fixed counts of replicas."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.queue_simulation import Queue, fixed, scaled

from eagleray.reconcile.scaling import ScalingRules
from eagleray.spec.latency import replicas_for

SECONDS = 1200
MEAN_S, P95_S = 0.05, 0.3
RULES = ScalingRules(
    low=1,
    high=30,
    interval_s=1.0,
    look_back_s=10.0,
    up_delay_s=1.0,
    down_delay_s=30.0,
    policy_kind="latency",
    p95_s=P95_S,
)


def wave(at: float) -> float:
    return 65 - 55 * math.cos(2 * math.pi * at / 600)


def rush(at: float) -> float:
    """Nearly seven times as much within a minute, and back at once."""
    return 15.0 + 85.0 * min(max(at % 600 - 300, 0.0) / 60, 1.0)


@pytest.mark.parametrize("trace", [wave, rush])
def test_p95_is_kept_with_fewer_replicas_than_a_fixed_count_needs(trace: Callable[[float], float]) -> None:
    queue, counts = scaled(Queue(trace, 120.0, MEAN_S, 1), RULES, SECONDS)
    assert queue.p95() <= P95_S
    enough = next(
        found
        for count in range(1, 30)
        if (found := fixed(Queue(trace, 120.0, MEAN_S, 1), count, SECONDS)).p95() <= P95_S
    )
    assert queue.replica_seconds < 0.9 * enough.replica_seconds
    assert max(counts) > min(counts)


def test_constant_arrivals_do_not_make_it_swing() -> None:
    queue, counts = scaled(Queue(lambda at: 60.0, 60.0, MEAN_S, 2), RULES, SECONDS)
    assert queue.p95() <= P95_S
    late = counts[len(counts) // 2 :]
    changes = sum(before != after for before, after in pairwise(late))
    assert max(late) - min(late) <= 2
    assert changes <= 12


def test_nothing_measured_is_no_reason_to_change() -> None:
    assert replicas_for(0.1, replicas=3, served_by=3, ongoing=0, per_second=0, growth=0, waiting=0) == 0
    assert replicas_for(0.1, replicas=3, served_by=3, ongoing=2, per_second=0, growth=0, waiting=0) == 3
    assert replicas_for(0.1, replicas=3, served_by=3, ongoing=9, per_second=0, growth=0, waiting=0) == 4


def test_target_that_cannot_be_met_has_an_end() -> None:
    wanted = replicas_for(0.01, replicas=2, served_by=2, ongoing=1, per_second=10, growth=0, waiting=0)
    assert wanted < 10
