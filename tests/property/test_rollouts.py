"""A healthy rollout over random worlds: capacity is never below, transition never above what was asked for."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decided import DIES, RAISES, UP, Decided

from eagleray.reconcile import events as e
from eagleray.reconcile.instance import COUNTED, GOING, LISTED, InstanceState, Trigger

KEY = "default#model"


def step(decided: Decided, data: st.DataObject) -> bool:
    """Lets one of the things happen that can happen next; False: there is none."""
    leaving = decided.leaving()
    count = len(decided.pending) + len(leaving)
    if not count:
        return False
    index = data.draw(st.integers(0, count - 1))
    if index < len(decided.pending):
        decided.perform(decided.pending.pop(index))
    else:
        decided.apply(e.Happened(leaving[index - len(decided.pending)], Trigger.UNLISTED))
    return True


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    before=st.integers(1, 8),
    after=st.integers(1, 8),
    percentage=st.sampled_from([0.01, 0.2, 0.5, 1.0]),
    surge=st.sampled_from([0, 1, 25, 100]),
)
def test_healthy_update(data: st.DataObject, before: int, after: int, percentage: float, surge: int) -> None:
    decided = Decided()
    options = {"rolling_update_percentage": percentage, "max_surge_percent": surge}
    decided.deploy(version="v1", model={"num_replicas": before, **options})
    decided.settle()
    old = decided.world.deployments[KEY].target
    assert old is not None
    decided.deploy(version="v2", model={"num_replicas": after, **options})
    batch = max(int(percentage * after), 1)
    limit = math.ceil(surge * after / 100) or batch
    while step(decided, data):
        instances = decided.world.instances_of(KEY)
        assert len(decided.listed()) >= min(before, after)
        assert sum(one.state in COUNTED for one in instances) <= max(before, after + limit)
        successors = sum(
            one.state is InstanceState.STARTING and one.row.version != old.version for one in instances
        )
        assert successors <= batch + max(after - before, 0), "more than a batch, and what is missing at all"
    assert decided.states(KEY) == {"RUNNING": after}
    assert decided.status().status == "HEALTHY"
    assert old.version not in {one.row.version for one in decided.world.instances_of(KEY)}


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(),
    count=st.integers(1, 5),
    percentage=st.sampled_from([0.2, 0.5, 1.0]),
    surge=st.sampled_from([0, 100]),
    auto_rollback=st.booleans(),
    outcomes=st.lists(st.sampled_from([RAISES, DIES]), min_size=1, max_size=4),
    restarts=st.booleans(),
)
def test_failing_update_never_takes_capacity(
    data: st.DataObject,
    count: int,
    percentage: float,
    surge: int,
    auto_rollback: bool,
    outcomes: list[str],
    restarts: bool,
) -> None:
    decided = Decided()
    options = {
        "num_replicas": count,
        "rolling_update_percentage": percentage,
        "max_surge_percent": surge,
        "auto_rollback": auto_rollback,
    }
    decided.deploy(version="v1", model=options)
    decided.settle()
    before = decided.listed()
    good = decided.started[0].version
    turn = [0]

    def outcome(row: object) -> str:
        turn[0] += 1
        return UP if getattr(row, "version", "") == good else outcomes[turn[0] % len(outcomes)]

    decided.outcome = outcome
    decided.deploy(version="v2", model=options)
    while decided.status().status != "DEPLOY_FAILED":
        if not step(decided, data):
            decided.wait_for_alarm()
        assert decided.listed() == before
    while step(decided, data):
        assert decided.listed() == before
    if restarts:
        decided.restart()
        decided.settle()
        assert decided.status().status == "DEPLOY_FAILED"
    assert decided.listed() == before
    decided.advance(600)
    assert decided.listed() == before
    decided.outcome = lambda row: UP
    decided.deploy(version="v3", model=options)
    decided.settle()
    assert decided.status().status == "HEALTHY"
    assert not set(before) & set(decided.listed())


@settings(max_examples=100, deadline=None)
@given(data=st.data(), count=st.integers(1, 6), percentage=st.sampled_from([0.2, 0.5, 1.0]))
def test_expired_replicas_are_replaced_first(data: st.DataObject, count: int, percentage: float) -> None:
    decided = Decided()
    options = {"num_replicas": count, "rolling_update_percentage": percentage}
    decided.deploy(model=options)
    decided.settle()
    before = decided.listed()
    expired = data.draw(st.lists(st.sampled_from(before), unique=True, min_size=1))
    for ref in expired:
        decided.apply(e.Expired(ref, "it wants to"))
    batch = max(int(percentage * count), 1)
    while step(decided, data):
        instances = decided.world.instances_of(KEY)
        assert sum(one.state in LISTED for one in instances) >= count
        assert (
            sum(one.state in GOING or one.state is InstanceState.STARTING for one in instances) <= 2 * batch
        )
        assert decided.status().status == "HEALTHY"
    assert decided.states(KEY) == {"RUNNING": count}
    assert set(before) - set(decided.listed()) == set(expired)
    assert sorted(one.row.rank for one in decided.world.instances_of(KEY)) == list(range(count))
