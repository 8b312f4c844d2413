"""Counts that follow from load: the formula, delays, factors, waking, and what is durable of it."""

from __future__ import annotations

import json
import warnings
from typing import Any

import msgspec
import pytest
from tests.decided import RAISES, TRACEBACK, UP, Decided, application

from eagleray.controller.listing import routing_table
from eagleray.reconcile import events as e
from eagleray.reconcile.autoscaler import Autoscaler
from eagleray.reconcile.load import LoadWindow, Sample
from eagleray.reconcile.scaling import ScalingRules, counted, rules_of, with_policy
from eagleray.reconcile.target import Target
from eagleray.reconcile.world import DeploymentRow
from eagleray.spec.autoscaling import AutoscalingConfig

KEY = "default#model"
AUTO = {"min_replicas": 1, "max_replicas": 10}


def rules(**given: Any) -> ScalingRules:
    fields = {
        "low": 0,
        "high": 10,
        "interval_s": 1.0,
        "look_back_s": 5.0,
        "up_delay_s": 0.0,
        "down_delay_s": 0.0,
    }
    return ScalingRules(**{**fields, "zero_delay_s": 0.0, **given})


class Life:
    """A deployment whose replicas are up at once; one router tells its load every second."""

    def __init__(self, **given: Any) -> None:
        self.rules = rules(**given)
        self.scaler = Autoscaler(self.rules)
        self.now = 100.0
        self.count = self.rules.low

    def tell(self, queued: int, running: int = 0) -> int:
        self.scaler.tell("proxy", Sample(self.now, queued, running, 0))
        return self.look()

    def look(self, wanted: float | None = None) -> int:
        bounds = (self.rules.low, self.rules.high)
        wish = self.scaler.decide(self.now, self.count, self.count, bounds=bounds, wanted=wanted)
        if wish is not None:
            assert wish.reason
            self.count = wish.num_replicas
        return self.count

    def hold(self, load: int, seconds: int) -> list[int]:
        """Counts, second by second."""
        counts = []
        for _ in range(seconds):
            self.now += 1.0
            counts.append(self.tell(0, load))
        return counts


def test_first_call_wakes_what_has_no_replica_whatever_the_delay() -> None:
    life = Life(up_delay_s=30.0)
    assert life.look() == 0
    assert life.tell(1) == 1


def test_waking_takes_as_many_replicas_as_the_factor_says() -> None:
    assert Life(up_factor=2.5).tell(1) == 3
    assert Life(up_factor=25.0).tell(1) == 10


def test_a_policy_wakes_what_has_no_replica_without_a_call() -> None:
    life = Life(policy_kind="", policy="policies:by_queue")
    assert life.look(wanted=0.0) == 0
    assert life.look(wanted=2.2) == 3
    assert Life(policy_kind="", policy="policies:by_queue").look(wanted=99.0) == 10


def test_replicas_are_load_over_target() -> None:
    life = Life(low=1)
    assert life.hold(8, 6)[-1] == 4
    assert life.hold(0, 7)[-1] == 1


def test_factor_damps_the_way_up() -> None:
    life = Life(low=1, up_factor=0.5, look_back_s=0.5)
    assert life.hold(16, 6) == [5, 7, 8, 8, 8, 8]


def test_small_factor_does_not_stop_half_way_down() -> None:
    life = Life(low=1, down_factor=0.1, look_back_s=0.5)
    life.count = 5
    assert life.hold(2, 6) == [5, 4, 3, 2, 1, 1]


def test_upscale_delay_begins_again_when_load_falls_back() -> None:
    life = Life(low=1, up_delay_s=3.5, look_back_s=0.5)
    assert life.hold(8, 3) == [1, 1, 1]
    assert life.hold(2, 2) == [1, 1]
    assert life.hold(8, 6) == [1, 1, 1, 1, 1, 4]


def test_last_replica_goes_by_a_delay_of_its_own() -> None:
    life = Life(down_delay_s=2.0, zero_delay_s=4.0, look_back_s=0.5)
    life.count = 3
    assert life.hold(0, 9) == [3, 3, 3, 1, 1, 1, 1, 1, 0]


def test_bounds_that_have_moved_count_at_once() -> None:
    life = Life(low=2, down_delay_s=600.0)
    life.count = 10
    life.rules = rules(low=2, high=4)
    life.scaler.change_rules(life.rules)
    assert life.look() == 4


def test_silent_router_is_taken_to_have_no_load() -> None:
    life = Life(low=1, look_back_s=1.0)
    assert life.tell(0, 20) == 10
    life.now += 9.0
    assert life.look() == 10
    life.now += 2.0
    life.look()
    life.now += 2.0
    assert life.look() == 1


def test_nothing_goes_before_all_routers_have_had_the_time_to_tell() -> None:
    life = Life(low=1, look_back_s=5.0)
    life.count = 6
    assert life.look() == 6
    assert life.scaler.next_at(life.now, life.count) == life.now + 5.0
    life.now += 5.0
    assert life.look() == 1


def test_time_of_the_next_look() -> None:
    life = Life(low=1, down_delay_s=30.0)
    life.look()
    assert life.scaler.next_at(life.now, life.count) is None
    life.tell(0, 2)
    assert life.scaler.next_at(life.now, life.count) == life.now + 1.0 or life.count == 1
    life.count = 5
    life.look()
    life.now += 6
    life.look()
    assert life.scaler.scaling_status == "DOWNSCALING"
    assert life.scaler.next_at(life.now, life.count) is not None


def test_policy_of_the_users_is_damped_delayed_and_bounded_like_ours() -> None:
    scaler = Autoscaler(rules(up_delay_s=2.0))
    assert scaler.decide(0.0, 2, 2, bounds=(1, 4), wanted=50.0) is None
    wish = scaler.decide(2.0, 2, 2, bounds=(1, 4), wanted=50.0)
    assert wish is not None and wish.num_replicas == 4
    assert "policy" in wish.reason


# ---- configuration ----------------------------------------------------------------------------------------------


def test_gains_come_from_the_newest_name_that_was_given() -> None:
    assert rules_of(None) is None
    with pytest.warns(DeprecationWarning, match="smoothing_factor is deprecated"):
        config = AutoscalingConfig(smoothing_factor=0.5, upscale_smoothing_factor=0.6, upscaling_factor=0.7)
    old = rules_of(config)
    assert old is not None and (old.up_factor, old.down_factor) == (0.7, 0.5)


def test_samples_come_five_times_in_the_look_back_period() -> None:
    assert AutoscalingConfig().sample_interval_s == 6.0
    with pytest.warns(DeprecationWarning, match="metrics_interval_s"):
        assert AutoscalingConfig(metrics_interval_s=0.5).sample_interval_s == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoscalingConfig(metrics_interval_s=10, look_back_period_s=1)


# ---- the world -----------------------------------------------------------------------------------------------------


def scale(decided: Decided, count: int) -> None:
    decided.apply(e.Autoscaled(KEY, count, "because", 1.0))


def test_count_of_load_is_no_deploy() -> None:
    decided = Decided()
    decided.deploy(model={"autoscaling_config": AUTO})
    decided.settle()
    assert len(decided.listed(KEY)) == 1
    scale(decided, 3)
    assert decided.app().status == "RUNNING"
    status = decided.status()
    assert (status.status, status.status_trigger) == ("UPSCALING", "AUTOSCALING")
    assert status.message == "Upscaling from 1 to 3 replicas."
    decided.settle()
    assert len(decided.listed(KEY)) == 3
    assert (decided.status().status, decided.status().status_trigger) == ("HEALTHY", "UPSCALE_COMPLETED")
    scale(decided, 1)
    assert (decided.status().status, decided.status().status_trigger) == ("DOWNSCALING", "AUTOSCALING")
    decided.settle()
    assert len(decided.listed(KEY)) == 1


def test_count_that_was_chosen_before_the_bounds_changed_is_held_within_the_new_ones() -> None:
    decided = Decided()
    decided.deploy(model={"autoscaling_config": AUTO})
    decided.settle()
    decided.deploy(model={"autoscaling_config": {**AUTO, "max_replicas": 2}})
    scale(decided, 8)
    decided.settle()
    assert len(decided.listed(KEY)) == 2


def test_count_survives_a_redeploy_and_a_restart() -> None:
    decided = Decided()
    decided.deploy(model={"autoscaling_config": AUTO})
    decided.settle()
    scale(decided, 4)
    decided.settle()
    decided.deploy(version="v2", model={"autoscaling_config": AUTO})
    decided.settle()
    assert len(decided.listed(KEY)) == 4
    decided.restart()
    decided.settle()
    assert len(decided.listed(KEY)) == 4
    decided.deploy(version="v2", model={"autoscaling_config": {**AUTO, "max_replicas": 2}})
    decided.settle()
    assert len(decided.listed(KEY)) == 2
    decided.deploy(version="v2", model={"autoscaling_config": {**AUTO, "initial_replicas": 3}})
    decided.settle()
    assert len(decided.listed(KEY)) == 3
    decided.deploy(version="v2", model={"num_replicas": 2})
    decided.settle()
    assert len(decided.listed(KEY)) == 2


def test_zero_replicas_are_healthy() -> None:
    decided = Decided()
    decided.deploy(model={"autoscaling_config": {**AUTO, "min_replicas": 0}})
    decided.settle()
    assert not decided.listed(KEY)
    assert decided.app().status == "RUNNING"
    scale(decided, 1)
    decided.settle()
    assert len(decided.listed(KEY)) == 1
    scale(decided, 0)
    decided.settle()
    assert not decided.alive
    assert decided.app().status == "RUNNING"


ZERO = {**AUTO, "min_replicas": 0}


def test_version_that_has_never_run_is_given_up_at_the_first_wake() -> None:
    decided = Decided()
    decided.deploy(model={"autoscaling_config": ZERO})
    decided.settle()
    assert decided.app().status == "RUNNING"
    decided.restart()
    decided.outcome = lambda row: RAISES
    scale(decided, 1)
    decided.settle()
    assert decided.app().status == "RUNNING", "the budget is not used up"
    decided.advance(600.0)
    assert len(decided.started) == 3
    status = decided.status()
    assert (status.status, status.status_trigger) == ("DEPLOY_FAILED", "REPLICA_STARTUP_FAILED")
    assert decided.app().status == "DEPLOY_FAILED"
    assert "failed to start 3 times in a row" in status.message and TRACEBACK in status.message
    assert routing_table(decided.world, 1, "/run").deployments[KEY].failed, "calls do not wait for it"
    decided.outcome = lambda row: UP
    decided.deploy(version="v2", model={"autoscaling_config": ZERO})
    decided.settle()
    assert decided.app().status == "RUNNING"
    assert len(decided.listed(KEY)) == 1, "load has asked for it"


def test_version_that_has_run_once_is_unhealthy_and_tried_again() -> None:
    decided = Decided()
    decided.deploy(model={"autoscaling_config": ZERO})
    decided.settle()
    for count in (1, 0):
        scale(decided, count)
        decided.settle()
    decided.restart()
    decided.outcome = lambda row: RAISES
    scale(decided, 1)
    decided.settle()
    decided.advance(120.0)
    assert decided.app().status == "UNHEALTHY"
    assert 4 <= len(decided.started) <= 9, "with growing delays"
    decided.deploy(model={"autoscaling_config": ZERO, "max_queued_requests": 3})
    decided.settle()
    decided.advance(120.0)
    assert not decided.world.deployments[KEY].row.rollout.halted, (
        "other options do not make it another version"
    )
    decided.outcome = lambda row: UP
    decided.advance(60.0)
    assert decided.app().status == "RUNNING"


@pytest.mark.parametrize("auto_rollback", [True, False])
def test_the_last_version_that_has_run_answers_for_one_that_cannot(auto_rollback: bool) -> None:
    decided = Decided()
    options = {"autoscaling_config": ZERO, "auto_rollback": auto_rollback}
    decided.deploy(version="v1", model=options)
    for count in (1, 0):
        scale(decided, count)
        decided.settle()
    good = decided.started[0].version
    decided.outcome = lambda row: UP if row.version == good else RAISES
    decided.deploy(version="v2", model=options)
    decided.settle()
    assert decided.app().status == "RUNNING"
    scale(decided, 1)
    decided.settle()
    decided.advance(120.0)
    assert decided.status().status == "DEPLOY_FAILED"
    assert TRACEBACK in decided.status().message
    assert ("was rolled back: version 'v1' serves" in decided.status().message) is auto_rollback
    assert [one.row.version for one in decided.world.instances_of(KEY)] == [good]
    assert decided.states(KEY) == {"RUNNING": 1}
    scale(decided, 0)
    decided.settle()
    assert not decided.alive
    scale(decided, 1)
    decided.settle()
    assert decided.states(KEY) == {"RUNNING": 1}


@pytest.mark.parametrize("counts", [(3, 0), (1, 3, 0), (3, 1, 0)])
@pytest.mark.parametrize("is_quick", [True, False])
@pytest.mark.parametrize("is_asked_outside", [True, False])
def test_status_names_the_direction_of_the_last_change(
    counts: tuple[int, ...], is_quick: bool, is_asked_outside: bool
) -> None:
    decided = Decided()
    options = {"num_replicas": 1} if is_asked_outside else {"autoscaling_config": ZERO}
    decided.deploy(model=options)
    decided.settle()
    before = 1 if is_asked_outside else 0
    for count in counts:
        if is_asked_outside:
            decided.apply(e.Scaled("default", "model", count))
        else:
            scale(decided, count)
        if count not in (0, before):  # none is reached at once
            status = decided.status()
            word = "UPSCALING" if count > before else "DOWNSCALING"
            trigger = "CONFIG_UPDATE_STARTED" if is_asked_outside else "AUTOSCALING"
            assert (status.status, status.status_trigger) == (word, trigger)
            assert status.message == f"{word.capitalize()} from {before} to {count} replicas."
        if not is_quick:
            decided.settle()
        before = count
    decided.settle()
    assert not decided.alive
    assert (decided.status().status, decided.status().status_trigger) == ("HEALTHY", "DOWNSCALE_COMPLETED")


def test_last_ten_decisions_are_kept() -> None:
    decided = Decided()
    decided.deploy(model={"autoscaling_config": AUTO})
    for count in (2, 3, 4, 5, 6, 7, 8, 9, 10, 9, 8, 7):
        scale(decided, count)
    decided.rows()
    row = msgspec.json.decode(decided.stored["deployments", KEY], type=DeploymentRow)
    assert row.scaling is not None and len(row.scaling.decisions) == 10
    last = row.scaling.decisions[-1]
    assert (last.prev_num_replicas, last.curr_num_replicas, last.policy) == (8, 7, "default")
    assert json.loads(msgspec.json.encode(last))["reason"] == "because"


def test_initial_replicas_are_the_least_as_long_as_capacity_rises() -> None:
    def target(capacity: float | None, high: int = 20) -> Target:
        return Target(key=KEY, version="v", rules=rules(low=2, high=high, initial=10, capacity=capacity))

    def bounds(target: Target) -> tuple[int, int]:
        assert target.rules is not None
        return target.rules.bounds

    first, scaling = counted(target(20.0), None, None)
    assert first.num_replicas == 2 and first.config.world_size == 2
    assert bounds(first) == (2, 4)
    risen, scaling = counted(target(50.0), None, scaling)
    assert risen.num_replicas == 5 and bounds(risen) == (5, 10)
    again, scaling = counted(target(50.0), None, scaling)
    assert again == risen, "the same config file, or a restart, changes nothing"
    other, _ = counted(target(50.0, high=30), None, scaling)
    assert bounds(other) == (5, 15), "other options do not end the rise"
    full, scaling = counted(target(None), None, scaling)
    assert full.num_replicas == 10 and bounds(full) == (2, 20), "nothing rises any more"
    fallen, scaling = counted(target(20.0), None, scaling)
    assert fallen.num_replicas == 4 and bounds(fallen) == (1, 4)
    again, scaling = counted(target(20.0), None, scaling)
    assert again == fallen
    risen, _ = counted(target(60.0), None, scaling)
    assert risen.num_replicas == 6 and bounds(risen) == (6, 12)


def test_load_does_not_bring_the_count_below_the_initial_one_while_capacity_rises() -> None:
    decided = Decided()
    initial = {**AUTO, "initial_replicas": 8}
    spec = application(model={"autoscaling_config": initial})

    def capacity(percent: float | None) -> None:
        decided.apply(e.InstanceDeclared(json.dumps({"target_capacity": percent})))
        decided.settle()

    capacity(50.0)
    decided.apply(e.ImportRequested("default", e.BuildRequest("app:app", "{}", ""), 0.0, config="{}"))
    decided.apply(e.Built("default", 1, spec, spec))
    decided.settle()
    assert len(decided.listed(KEY)) == 4
    scale(decided, 1)
    decided.settle()
    assert len(decided.listed(KEY)) == 4
    decided.restart()
    decided.settle()
    scale(decided, 1)
    decided.settle()
    assert len(decided.listed(KEY)) == 4
    capacity(100.0)
    assert len(decided.listed(KEY)) == 8
    scale(decided, 1)
    decided.settle()
    assert len(decided.listed(KEY)) == 8
    capacity(None)
    assert len(decided.listed(KEY)) == 8
    scale(decided, 1)
    decided.settle()
    assert len(decided.listed(KEY)) == 1


def test_policy_of_the_application_replaces_those_of_its_deployments() -> None:
    scaling = Target(key=KEY, version="v", rules=rules())
    found = with_policy(scaling, "module:policy", '{"a": 1}').rules
    assert found is not None and found.is_custom
    assert (found.policy_kind, found.policy, found.policy_kwargs) == ("app", "module:policy", '{"a": 1}')
    fixed = Target(key=KEY, version="v", num_replicas=3)
    assert with_policy(fixed, "module:policy", "{}") is fixed


@pytest.mark.parametrize("given", [{"target_ongoing": 1e-320}, {"up_factor": 1e308}, {"down_factor": 1e308}])
def test_wish_beyond_all_numbers_is_held_within_the_bounds(given: dict[str, float]) -> None:
    life = Life(low=1, look_back_s=0.5, **given)
    assert life.hold(100, 3)[-1] == 10
    assert life.hold(0, 3)[-1] == 1


def test_policy_that_has_failed_leaves_nothing_due() -> None:
    scaler = Autoscaler(rules(low=1, up_delay_s=30.0, policy_kind="", policy="m:f"))
    scaler.decide(100.0, 1, 1, bounds=(1, 10), wanted=5.0)
    assert scaler.next_at(100.0, 1) == 130.0
    assert scaler.decide(130.0, 1, 1, bounds=(1, 10), wanted=None) is None
    assert scaler.next_at(130.0, 1) is None, "it would be looked at again and again"


def test_rate_is_that_of_the_window_also_after_a_silence() -> None:
    window = LoadWindow(10.0, 2.0)
    window.add("proxy", Sample(0.0, 0, 0, 100))
    for step in range(1, 6):
        window.add("proxy", Sample(1000.0 + 2 * step, 0, 1, 100 + 20 * step))
        window.prune(1000.0 + 2 * step)
    assert 100 / 12 <= window.rate(1010.0) <= 10.0


@pytest.mark.parametrize("p95_ms", [float("nan"), float("inf"), True, 0, "1"])
def test_latency_target_is_a_number_of_milliseconds(p95_ms: object) -> None:
    with pytest.raises(ValueError, match="milliseconds above 0"):
        AutoscalingConfig(
            policy={"policy_function": "LatencyTargetPolicy", "policy_kwargs": {"p95_ms": p95_ms}}
        )
