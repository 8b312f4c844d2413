"""Whose count is in force while an update is given up: that of the version that serves, by its own options."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.decided import RAISES, UP, Decided

from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.listing import routing_table
from eagleray.reconcile import events as e
from eagleray.reconcile.world import World
from eagleray.wire.scaling import LoadReport

KEY = "default#model"
SMALL = {"min_replicas": 1, "max_replicas": 4, "look_back_period_s": 10, "downscale_delay_s": 0}
LARGE = {"min_replicas": 6, "max_replicas": 9, "look_back_period_s": 50}


def given_up(
    before: dict[str, Any], after: dict[str, Any], *, auto_rollback: bool, count: int | None = None
) -> Decided:
    """A version with the options `before` is up, with `count` replicas; one with `after` could not start."""
    decided = Decided()
    decided.deploy(version="v1", model={**before, "auto_rollback": auto_rollback})
    decided.settle()
    if count is not None:
        scale(decided, count)
    good = decided.started[0].version
    decided.outcome = lambda row: UP if row.version == good else RAISES
    options = {"auto_rollback": auto_rollback, "max_constructor_retry_count": 2}
    decided.deploy(version="v2", model={**options, **after})
    decided.settle()
    decided.advance(120.0)
    assert decided.status().status == "DEPLOY_FAILED"
    return decided


def scale(decided: Decided, count: int) -> None:
    decided.apply(e.Autoscaled(KEY, count, "because", 1.0))
    decided.settle()


def rows_and_targets(world: World) -> dict[str, Any]:
    return {key: (one.row, one.target) for key, one in world.deployments.items()}


@pytest.mark.parametrize("auto_rollback", [True, False])
def test_bounds_are_those_of_the_version_that_serves(auto_rollback: bool) -> None:
    decided = given_up(
        {"autoscaling_config": SMALL}, {"autoscaling_config": LARGE}, auto_rollback=auto_rollback, count=2
    )
    assert len(decided.listed()) == 2, "the bounds of what failed have never been in force"
    for wanted, expected in ((9, 4), (3, 3), (0, 1)):
        scale(decided, wanted)
        assert len(decided.listed()) == expected
        assert decided.status().status == "DEPLOY_FAILED"
    assert decided.world.deployments[KEY].row.scaling is not None


@pytest.mark.parametrize("auto_rollback", [True, False])
def test_load_is_followed_where_only_the_failed_version_has_a_fixed_number(auto_rollback: bool) -> None:
    decided = given_up({"autoscaling_config": SMALL}, {"num_replicas": 3}, auto_rollback=auto_rollback)
    scale(decided, 2)
    assert len(decided.listed()) == 2
    scaling = decided.world.deployments[KEY].row.scaling
    assert scaling is not None
    assert [one.curr_num_replicas for one in scaling.decisions] == [2]


@pytest.mark.parametrize("auto_rollback", [True, False])
def test_a_fixed_number_stays_whatever_load_the_failed_version_follows(auto_rollback: bool) -> None:
    decided = given_up({"num_replicas": 3}, {"autoscaling_config": LARGE}, auto_rollback=auto_rollback)
    scale(decided, 7)
    assert len(decided.listed()) == 3


@pytest.mark.parametrize("after", [{"autoscaling_config": LARGE}, {"autoscaling_config": SMALL}, {}])
@pytest.mark.parametrize("auto_rollback", [True, False])
def test_it_survives_the_controller(after: dict[str, Any], auto_rollback: bool) -> None:
    decided = given_up({"autoscaling_config": SMALL}, after, auto_rollback=auto_rollback, count=2)
    scale(decided, 3)
    before = rows_and_targets(decided.world)
    decided.restart()
    assert rows_and_targets(decided.world) == before
    decided.settle()
    assert len(decided.listed()) == 3
    scale(decided, 9)
    assert len(decided.listed()) == 4


def test_count_that_load_chose_during_the_update_counts_on() -> None:
    decided = Decided()
    decided.deploy(version="v1", model={"autoscaling_config": SMALL, "auto_rollback": True})
    decided.settle()
    good = decided.started[0].version
    decided.outcome = lambda row: UP if row.version == good else RAISES
    decided.deploy(version="v2", model={"autoscaling_config": SMALL, "auto_rollback": True})
    decided.apply(e.Autoscaled(KEY, 3, "because", 1.0))
    decided.settle()
    decided.advance(120.0)
    assert decided.status().status == "DEPLOY_FAILED"
    assert len(decided.listed()) == 3


def test_deploy_that_ends_it_begins_with_the_count_that_serves() -> None:
    decided = given_up(
        {"autoscaling_config": SMALL}, {"autoscaling_config": LARGE}, auto_rollback=True, count=3
    )
    decided.outcome = lambda row: UP
    decided.deploy(version="v3", model={"autoscaling_config": SMALL})
    decided.settle()
    assert len(decided.listed()) == 3
    decided.deploy(version="v4", model={"autoscaling_config": {**SMALL, "max_replicas": 2}})
    decided.settle()
    assert len(decided.listed()) == 2


@pytest.mark.parametrize("auto_rollback", [True, False])
@pytest.mark.parametrize(
    ("before", "after", "interval_s"),
    [
        ({"autoscaling_config": SMALL}, {"autoscaling_config": LARGE}, 2.0),
        ({"autoscaling_config": SMALL}, {"num_replicas": 3}, 2.0),
        ({"num_replicas": 3}, {"autoscaling_config": LARGE}, 0.0),
    ],
)
def test_routers_tell_their_load_as_the_version_that_serves_wants_it(
    before: dict[str, Any], after: dict[str, Any], interval_s: float, auto_rollback: bool
) -> None:
    decided = given_up(before, after, auto_rollback=auto_rollback)
    assert routing_table(decided.world, 1, "/run").deployments[KEY].load_interval_s == interval_s


@pytest.mark.parametrize("auto_rollback", [True, False])
@pytest.mark.parametrize("after", [{"autoscaling_config": LARGE}, {"num_replicas": 3}])
def test_decisions_are_made_by_the_rules_of_the_version_that_serves(
    after: dict[str, Any], auto_rollback: bool
) -> None:
    decided = given_up({"autoscaling_config": SMALL}, after, auto_rollback=auto_rollback, count=2)

    class Clock:
        def now(self) -> float:
            return decided.now

    async def decide() -> None:
        posted: list[e.Event] = []
        autoscaling = Autoscaling(decided.world, posted.append, Clock())
        autoscaling.refresh()
        assert posted == [], "two replicas are within its bounds"
        context = autoscaling.context(KEY)
        assert context is not None
        assert context["capacity_adjusted_max_replicas"] == 4
        assert context["config"]["max_replicas"] == 4
        assert context["target_num_replicas"] == 2
        autoscaling.tell(LoadReport("proxy", {KEY: (0, 100, 0)}))
        decided.advance(60.0)
        autoscaling.tell(LoadReport("proxy", {KEY: (0, 100, 0)}))
        autoscaling.close()
        assert [one.num_replicas for one in posted if isinstance(one, e.Autoscaled)] == [4]

    asyncio.run(decide())


FROM_ZERO = {"autoscaling_config": {"min_replicas": 0, "max_replicas": 2}, "auto_rollback": True}


def updated_at_zero() -> Decided:
    """The second version sleeps and has never run; it does without the helper that the first one calls."""
    decided = Decided()
    decided.deploy(version="v1", model={"children": ["a_helper"], **FROM_ZERO}, a_helper={})
    decided.settle()
    scale(decided, 1)
    scale(decided, 0)
    good = {one.version for one in decided.started}
    decided.outcome = lambda row: UP if row.version in good else RAISES
    decided.deploy(model={"version": "v2", "max_constructor_retry_count": 2, **FROM_ZERO})
    decided.settle()
    return decided


def test_what_only_the_former_version_calls_goes_though_the_new_one_has_not_run() -> None:
    decided = updated_at_zero()
    assert list(decided.world.deployments) == [KEY]
    assert decided.app().status == "RUNNING"
