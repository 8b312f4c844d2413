"""A deployment on its way to its target: starts, updates, failures, drains, resources."""

from __future__ import annotations

from collections import Counter

from tests.decided import DIES, RAISES, REJECTED, TRACEBACK, UP, Decided

from eagleray.controller.listing import routing_table
from eagleray.reconcile import commands as c
from eagleray.reconcile import events as e
from eagleray.reconcile.instance import InstanceRow, InstanceState, Trigger
from eagleray.reconcile.placement import UNIT, Supply
from eagleray.reconcile.world import World

KEY = "default#model"


def test_row_is_written_before_the_process_is_started() -> None:
    decided = Decided()
    decided.deploy()
    assert [type(command) for command in decided.pending] == [c.StartInstance]
    rows = {(table, key) for table, key, _ in decided.rows()}
    assert ("instances", decided.pending[0].ref) in rows  # type: ignore[attr-defined]
    assert ("applications", "default") in rows


def test_first_deploy_reaches_its_target() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 3})
    assert decided.status().status == "UPDATING"
    assert decided.app().status == "DEPLOYING"
    decided.settle()
    assert decided.states() == {"RUNNING": 3}
    assert decided.status().status == "HEALTHY"
    assert decided.status().status_trigger == "CONFIG_UPDATE_COMPLETED"
    assert decided.app().status == "RUNNING"
    assert sorted(one.row.rank for one in decided.world.instances_of(KEY)) == [0, 1, 2]


def test_identical_deploy_changes_nothing() -> None:
    decided = Decided()
    decided.deploy()
    decided.settle()
    before = decided.listed()
    decided.deploy()
    assert decided.status().status == "HEALTHY"
    decided.settle()
    assert decided.listed() == before


def test_update_starts_the_new_first_and_keeps_capacity() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 2})
    decided.settle()
    old = set(decided.listed())
    decided.deploy(version="v2", model={"num_replicas": 2})
    assert set(decided.listed()) == old
    while decided.pending or decided.leaving():
        if decided.pending:
            decided.perform(decided.pending.pop(0))
        else:
            decided.apply(e.Happened(decided.leaving()[0], Trigger.UNLISTED))
        assert len(decided.listed()) >= 2
    assert not old & set(decided.listed())
    assert decided.states() == {"RUNNING": 2}
    assert decided.alive == set(decided.listed())


def test_old_replica_is_not_drained_before_nobody_routes_to_it() -> None:
    decided = Decided()
    decided.deploy()
    decided.settle()
    (old,) = decided.listed()
    decided.holds_leaving = True
    decided.deploy(version="v2")
    decided.settle()
    assert decided.world.instances[old].state is InstanceState.LEAVING
    assert not decided.pending
    assert decided.status().status == "HEALTHY"
    decided.apply(e.Happened(old, Trigger.UNLISTED))
    assert [type(command) for command in decided.pending] == [c.DrainInstance]


def test_redeploy_supersedes_an_update_that_is_under_way() -> None:
    decided = Decided()
    decided.deploy(version="v1")
    decided.settle()
    decided.deploy(version="v2")
    decided.deploy(version="v3")
    decided.settle()
    assert [row.version for row in decided.started[-1:]] == [decided.world.deployments[KEY].target.version]  # type: ignore[union-attr]
    assert decided.states() == {"RUNNING": 1}
    assert decided.status().status == "HEALTHY"


def test_scaling_keeps_the_replicas_that_stay_and_their_ranks_dense() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 1})
    decided.settle()
    first = decided.listed()
    decided.deploy(model={"num_replicas": 3})
    assert decided.status().status == "UPSCALING"
    assert decided.status().message == "Upscaling from 1 to 3 replicas."
    decided.settle()
    assert decided.listed()[:1] == first
    assert decided.status().status_trigger == "UPSCALE_COMPLETED"
    decided.deploy(model={"num_replicas": 2})
    assert decided.status().status == "DOWNSCALING"
    decided.settle()
    assert decided.status().status_trigger == "DOWNSCALE_COMPLETED"
    assert sorted(one.row.rank for one in decided.world.instances_of(KEY)) == [0, 1]


def test_user_config_is_told_in_place() -> None:
    decided = Decided()
    decided.deploy(model={"user_config": {"a": 1}})
    decided.settle()
    before = decided.listed()
    decided.deploy(model={"user_config": {"a": 2}})
    (command,) = decided.pending
    assert isinstance(command, c.ReconfigureInstance)
    assert (command.before.user_config, command.after.user_config) == ('{"a":1}', '{"a":2}')
    assert decided.states() == {"UPDATING": 1}
    assert decided.listed() == before, "it serves meanwhile"
    decided.settle()
    assert decided.listed() == before
    assert decided.status().status == "HEALTHY"


def test_refused_configuration_gives_the_update_up_and_keeps_the_replica() -> None:
    decided = Decided()
    decided.deploy(model={"user_config": 1})
    decided.settle()
    before = decided.listed()
    decided.reconfigure = lambda ref: TRACEBACK
    decided.deploy(model={"user_config": 2})
    decided.settle()
    assert decided.listed() == before
    assert decided.status().status == "DEPLOY_FAILED"
    assert TRACEBACK in decided.status().message
    decided.die(before[0])
    decided.settle()
    assert decided.states() == {"RUNNING": 1}
    assert decided.started[-1].config.user_config == "1"
    decided.reconfigure = lambda ref: ""
    decided.deploy(model={"user_config": 3})
    decided.settle()
    assert decided.status().status == "HEALTHY"


def test_constructor_that_raises_uses_up_its_budget_and_then_fails() -> None:
    decided = Decided()
    decided.outcome = lambda row: RAISES
    decided.deploy()
    decided.perform(decided.pending.pop(0))
    assert decided.status().status == "UPDATING"
    assert decided.status().message == (
        f"A replica failed to start with exception. Retrying 2 more time(s). Error:\n{TRACEBACK}"
    )
    decided.settle()
    assert len(decided.started) == 2, "the first retry comes at once, later ones do not"
    decided.advance(0.5)
    assert len(decided.started) == 3
    assert decided.app().status == "DEPLOY_FAILED"
    assert decided.app().message == "Failed to update the deployments ['model']."
    assert decided.status().status_trigger == "REPLICA_STARTUP_FAILED"
    assert decided.status().message == (
        "The deployment failed to start 3 times in a row. This may be due to a problem with its constructor or initial "
        f"health check failing. See controller logs for details. Error:\n{TRACEBACK}"
    )
    decided.advance(600)
    assert len(decided.started) == 3
    assert not decided.alive


def test_budget_is_the_smaller_of_the_two() -> None:
    decided = Decided()
    decided.outcome = lambda row: RAISES
    decided.deploy(model={"num_replicas": 4, "max_constructor_retry_count": 5})
    decided.settle()
    assert len(decided.started) <= 8, "four at once, and no new ones once five have failed"
    assert decided.status().status == "DEPLOY_FAILED"


def test_new_deploy_resets_a_failed_one() -> None:
    decided = Decided()
    decided.outcome = lambda row: RAISES
    decided.deploy()
    decided.settle()
    decided.outcome = lambda row: UP
    decided.deploy()
    assert decided.status().status == "UPDATING"
    decided.settle()
    assert decided.app().status == "RUNNING"


def test_failed_update_keeps_the_old_version_at_strength() -> None:
    decided = Decided()
    decided.deploy(version="v1", model={"num_replicas": 2})
    decided.settle()
    old = decided.listed()
    good = decided.started[0].version
    decided.outcome = lambda row: UP if row.version == good else RAISES
    decided.deploy(version="v2", model={"num_replicas": 2})
    decided.settle()
    decided.advance(5)
    assert decided.listed() == old
    assert decided.status().status == "DEPLOY_FAILED"
    assert "during a rolling update" in decided.status().message
    decided.restart()
    decided.settle()
    assert decided.listed() == old
    assert decided.status().status == "DEPLOY_FAILED"
    decided.die(old[0])
    decided.settle()
    assert len(decided.listed()) == 2
    assert {one.row.version for one in decided.world.instances_of(KEY)} == {good}


def test_dead_replica_is_unlisted_at_once_and_replaced() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 2})
    decided.settle()
    first, second = decided.listed()
    decided.apply(e.Happened(first, Trigger.LOST, "EOF"))
    assert decided.listed() == [second]
    assert decided.status().status == "UNHEALTHY"
    assert decided.status().status_trigger == "HEALTH_CHECK_FAILED"
    assert decided.app().message == "The deployments ['model'] are UNHEALTHY."
    decided.settle()
    assert decided.states() == {"RUNNING": 2}
    assert decided.status().status == "HEALTHY"
    assert decided.status().status_trigger == "UNSPECIFIED"


def test_stopped_replica_gets_no_requests_and_is_replaced_unless_it_goes_on() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 2})
    decided.settle()
    kept, stopped = decided.listed()
    decided.apply(e.Suspended(kept, True))
    decided.advance(1.0)
    decided.apply(e.Suspended(kept, False))
    decided.apply(e.Suspended(stopped, True))
    assert [one.row.ref for one in decided.world.instances_of("default#model") if one.is_routed] == [kept]
    decided.advance(1.9)
    assert stopped in decided.alive
    decided.advance(0.2)
    decided.settle()
    assert kept in decided.alive and stopped not in decided.alive
    assert decided.states() == {"RUNNING": 2}


def test_crash_loop_backs_off() -> None:
    decided = Decided()
    decided.deploy()
    decided.settle()
    first = decided.now
    starts = []
    while decided.now < first + 60:
        for ref in decided.listed():
            decided.die(ref)
        decided.settle()
        if len(decided.started) > len(starts):
            starts = [*starts, decided.now]
        decided.advance(0.25)
    assert len(decided.started) <= 6
    assert decided.status().status in ("UNHEALTHY", "HEALTHY")


def test_version_that_was_up_is_retried_for_ever_with_growing_delays() -> None:
    decided = Decided()
    decided.deploy()
    decided.settle()
    decided.advance(20)
    decided.outcome = lambda row: RAISES
    decided.die(decided.listed()[0])
    decided.settle()
    decided.advance(3600)
    starts = len(decided.started)
    assert 60 < starts < 200
    assert decided.status().status == "UNHEALTHY"
    decided.outcome = lambda row: UP
    decided.advance(31)
    assert decided.status().status == "HEALTHY"


def test_three_failed_health_checks_replace_a_replica() -> None:
    decided = Decided()
    decided.deploy(model={"health_check_period_s": 5})
    decided.settle()
    (sick,) = decided.listed()
    decided.health = lambda ref: "no" if ref == sick else ""
    decided.advance(11)
    assert decided.listed() == [sick]
    decided.advance(6)
    assert sick not in decided.world.instances
    assert decided.states() == {"RUNNING": 1}


def test_a_passed_check_forgives_failed_ones() -> None:
    decided = Decided()
    decided.deploy(model={"health_check_period_s": 5})
    decided.settle()
    before = decided.listed()
    answers = iter(["no", "no", ""] * 20)
    decided.health = lambda ref: next(answers)
    decided.advance(200)
    assert decided.listed() == before


def test_health_checks_of_many_replicas_share_one_wake_up() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 20})
    decided.settle()
    alarms = {one.check_at for one in decided.world.instances_of(KEY)}
    assert len(alarms) == 1


def test_replica_that_does_not_drain_in_time_is_killed() -> None:
    decided = Decided()
    decided.deploy(model={"graceful_shutdown_timeout_s": 3})
    decided.settle()
    (old,) = decided.listed()
    decided.apply(e.DeleteRequested(("default",)))
    decided.apply(e.Happened(old, Trigger.UNLISTED))
    (drain,) = decided.pending
    assert drain == c.DrainInstance(old, 3)
    decided.pending.clear()
    decided.advance(4.9)
    assert decided.world.instances[old].state is InstanceState.DRAINING
    decided.advance(0.2)
    assert not decided.alive
    assert "default" not in decided.world.applications


def test_gpus_are_given_out_strictly_and_status_says_what_is_missing() -> None:
    decided = Decided(Supply(num_cpus=2, memory=1 << 30, gpu_ids=("0", "1")))
    decided.deploy(model={"num_replicas": 3, "ray_actor_options": {"num_gpus": 1}})
    decided.settle()
    assert decided.states() == {"RUNNING": 2}
    assert "needs num_gpus=1, free 0 of 2" in decided.status().message
    assert decided.status().status == "UPDATING"
    held = sorted(gpu for one in decided.world.instances_of(KEY) for gpu in one.row.allocation.gpus)
    assert held == ["0", "1"]


def test_freed_resources_go_to_whoever_waits() -> None:
    decided = Decided(Supply(num_cpus=2, memory=1 << 30, gpu_ids=("0",)))
    decided.deploy("one", route_prefix="/one", model={"ray_actor_options": {"num_gpus": 1}})
    decided.settle()
    decided.deploy("two", route_prefix="/two", model={"ray_actor_options": {"num_gpus": 1}})
    decided.settle()
    assert decided.app("two").status == "DEPLOYING"
    decided.apply(e.DeleteRequested(("one",)))
    decided.settle()
    assert decided.app("two").status == "RUNNING"


def test_update_on_a_full_machine_lets_an_old_replica_go_first() -> None:
    decided = Decided(Supply(num_cpus=2, memory=1 << 30, gpu_ids=("0", "1")))
    options = {"num_replicas": 2, "ray_actor_options": {"num_gpus": 1}}
    decided.deploy(version="v1", model=options)
    decided.settle()
    decided.deploy(version="v2", model=options)
    assert len(decided.listed()) == 1, "only as many go as are needed"
    decided.settle()
    assert decided.states() == {"RUNNING": 2}
    assert decided.status().status == "HEALTHY"


def test_fractions_share_a_gpu() -> None:
    decided = Decided(Supply(num_cpus=2, memory=1 << 30, gpu_ids=("0", "1")))
    decided.deploy(model={"num_replicas": 3, "ray_actor_options": {"num_gpus": 0.5}})
    decided.settle()
    held = sorted(gpu for one in decided.world.instances_of(KEY) for gpu in one.row.allocation.gpus)
    assert held == ["0", "0", "1"]
    assert all(
        set(one.row.allocation.gpus.values()) == {UNIT // 2} for one in decided.world.instances_of(KEY)
    )


def test_proxy_whose_port_is_taken_is_retried_slowly_and_recovers() -> None:
    decided = Decided()
    decided.outcome = lambda row: REJECTED
    decided.want_proxy()
    decided.settle()
    decided.advance(60)
    assert 2 <= len(decided.started) <= 7
    decided.outcome = lambda row: UP
    decided.advance(31)
    assert decided.states("#http") == {"RUNNING": 1}


def test_process_that_dies_while_starting_counts_as_a_failed_start() -> None:
    decided = Decided()
    decided.outcome = lambda row: DIES
    decided.deploy()
    decided.settle()
    decided.advance(5)
    assert len(decided.started) == 3
    assert decided.status().status == "DEPLOY_FAILED"


def test_kill_that_overtakes_the_start_is_repeated() -> None:
    decided = Decided()
    decided.deploy()
    start = decided.pending.pop(0)
    assert isinstance(start, c.StartInstance)
    decided.apply(e.DeleteRequested(("default",)))
    decided.settle()
    decided.alive.add(start.ref)
    decided.apply(e.Born(start.ref, 7))
    decided.settle()
    assert not decided.alive
    assert not decided.world.instances
    assert not decided.world.applications


def test_adopted_replica_that_may_have_been_listed_is_drained_and_not_killed() -> None:
    decided = Decided()
    decided.deploy()
    start = decided.pending.pop()
    assert isinstance(start, c.StartInstance)
    before = decided.rows()
    decided.perform(start)
    assert decided.listed() == [start.ref]
    # The controller dies before this is stored.
    decided.world.take_changes()
    decided.stored = {(table, key): value for table, key, value in before}
    decided.holds_leaving = True
    decided.restart()
    assert decided.states() == {"STARTING": 1}
    decided.deploy(version="v2")
    assert decided.world.instances[start.ref].state is InstanceState.LEAVING
    assert c.StopInstance(start.ref, 9) not in decided.pending
    decided.holds_leaving = False
    decided.settle()
    assert start.ref not in decided.alive
    assert decided.states() == {"RUNNING": 1}


DROPPING = {"model": {"version": "v2"}}
"""The version after CALLING: it does without `helper`."""
CALLING = {"model": {"children": ["helper"]}, "helper": {}}
HELPER = "default#helper"


def test_dropped_deployment_stays_until_its_callers_have_gone() -> None:
    decided = Decided()
    decided.deploy(**CALLING)
    decided.settle()
    (old,) = decided.listed()
    decided.deploy(**DROPPING)
    assert decided.listed(HELPER)
    decided.holds_leaving = True
    decided.settle()
    assert old not in decided.listed()
    assert decided.listed(HELPER), "the old caller may still have requests"
    decided.holds_leaving = False
    decided.settle()
    assert HELPER not in decided.world.deployments
    assert decided.app().status == "RUNNING"


def test_dropped_deployment_is_kept_up_for_the_version_that_was_rolled_back_to() -> None:
    for auto_rollback in (True, False):
        decided = Decided()
        decided.deploy(**CALLING)
        decided.settle()
        good = {one.row.version for one in decided.world.instances.values()}
        decided.outcome = lambda row, good=good: UP if row.version in good else RAISES
        decided.deploy(model={"version": "v2", "auto_rollback": auto_rollback})
        decided.settle()
        decided.advance(600.0)
        assert decided.app().status == "DEPLOY_FAILED"
        (helper,) = decided.listed(HELPER)
        decided.die(helper)
        decided.advance(60.0)
        assert decided.listed(HELPER)
        decided.restart()
        decided.settle()
        decided.advance(60.0)
        (helper,) = decided.listed(HELPER)
        decided.deploy(**CALLING)
        decided.settle()
        assert decided.listed(HELPER) == [helper]
        assert decided.app().status == "RUNNING"
        decided.apply(e.DeleteRequested(("default",)))
        decided.settle()
        assert not decided.alive


def test_dropped_deployment_makes_room_for_what_needs_its_resources() -> None:
    decided = Decided(Supply(num_cpus=2, memory=1 << 30, gpu_ids=("0",)))
    gpu = {"ray_actor_options": {"num_gpus": 1}}
    decided.deploy(model={"children": ["helper"]}, helper=gpu)
    decided.settle()
    decided.deploy(model={"version": "v2", **gpu})
    decided.settle()
    assert decided.states() == {"RUNNING": 1}
    assert decided.app().status == "RUNNING"
    assert HELPER not in decided.world.deployments


def test_stopped_replica_that_is_also_surplus_goes_once() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 2})
    decided.settle()
    stopped = next(one.row.ref for one in decided.world.instances_of(KEY) if one.row.rank == 1)
    decided.apply(e.Suspended(stopped, True))
    decided.now += 2.0
    decided.deploy(model={"num_replicas": 1})
    assert decided.states()["KILLING"] == 1
    assert len(decided.listed()) == 1


def test_who_adopts_knows_what_the_dead_had_no_time_to_store() -> None:
    decided = Decided()
    decided.want_proxy()
    ref = decided.pending[0].ref  # type: ignore[attr-defined]
    rows = decided.rows()
    decided.settle()
    decided.world = World("next")
    decided.world.load(rows)
    address = ("127.0.0.1", 8000)
    decided.apply(e.Adopted({ref: 7}, {ref: address}, 123.0))
    row = decided.world.instances[ref].row
    assert (row.pid, row.http_address, row.started_at) == (7, address, 123.0)
    decided.apply(e.Adopted({ref: 7}, {ref: address}, 456.0))
    assert decided.world.instances[ref].row.started_at == 123.0


SLEEPING = {"autoscaling_config": {"min_replicas": 0, "max_replicas": 2}}


def test_dropped_deployment_at_zero_can_be_woken_until_its_callers_have_gone() -> None:
    decided = Decided()
    decided.deploy(model={"children": ["helper"]}, helper=SLEEPING)
    decided.settle()
    assert not decided.listed(HELPER)
    decided.holds_leaving = True
    decided.deploy(**DROPPING)
    decided.settle()
    assert HELPER in decided.world.deployments, "the old caller may still have requests"
    assert HELPER in routing_table(decided.world, 1, "/run").deployments
    decided.restart()
    decided.settle()
    assert HELPER in routing_table(decided.world, 1, "/run").deployments
    decided.apply(e.Autoscaled(HELPER, 1, "1 request(s) wait and no replica runs", 0.0))
    decided.settle()
    (woken,) = decided.listed(HELPER)
    decided.die(woken)
    decided.settle()
    assert decided.listed(HELPER)
    decided.holds_leaving = False
    decided.settle()
    assert HELPER not in decided.world.deployments
    assert decided.app().status == "RUNNING"
    assert set(decided.alive) == set(decided.listed())


def test_dropped_deployment_takes_nothing_that_another_one_lacks() -> None:
    decided = Decided(Supply(num_cpus=2, memory=1 << 30, gpu_ids=("0",)))
    gpu = {"ray_actor_options": {"num_gpus": 1}}
    decided.deploy(model={"children": ["helper"]}, helper={**SLEEPING, **gpu})
    decided.settle()
    decided.holds_leaving = True
    decided.deploy(model={"version": "v2"}, other=gpu)
    for command in list(decided.pending):
        if decided.world.instances[command.ref].row.owner == "default#model":  # type: ignore[attr-defined]
            decided.pending.remove(command)
            decided.perform(command)
    decided.apply(e.Autoscaled(HELPER, 1, "1 request(s) wait and no replica runs", 0.0))
    decided.settle()
    assert decided.states(HELPER) == {}
    assert decided.states("default#other") == {"RUNNING": 1}


def test_dropped_deployment_comes_back_only_as_far_as_nothing_is_lacking() -> None:
    decided = Decided(Supply(num_cpus=2, memory=1 << 30, gpu_ids=("0", "1")))
    half = {"ray_actor_options": {"num_gpus": 0.5}}
    decided.deploy(model={"children": ["helper"], "num_replicas": 3}, helper={"num_replicas": 2, **half})
    decided.settle()
    good = {one.version for one in decided.started}

    def outcome(row: InstanceRow) -> str:
        of_its_version = [one for one in decided.world.instances_of(KEY) if one.row.version == row.version]
        return RAISES if row.version not in good and len(of_its_version) > 2 else UP

    decided.outcome = outcome
    decided.deploy(model={"version": "v2", "num_replicas": 3, **half})
    decided.settle()
    assert decided.states() == {"RUNNING": 3}, "one of the old version, which calls the helper"
    assert decided.states(HELPER) == {"RUNNING": 1}
    decided.outcome = lambda row: UP
    decided.advance(60.0)
    assert decided.states() == {"RUNNING": 3}
    assert HELPER not in decided.world.deployments


def power_cut(decided: Decided) -> None:
    decided.alive.clear()
    decided.restart()


def test_power_cut_during_an_update_brings_the_old_version_back_beside_the_new() -> None:
    decided = Decided()
    options = {"num_replicas": 3}
    decided.deploy(version="v1", model=options)
    decided.settle()
    good = decided.started[0].version
    decided.deploy(version="v2", model=options)
    power_cut(decided)
    planned = Counter(one.row.version for one in decided.world.instances_of(KEY))
    assert planned[good] == 3
    assert sum(planned.values()) == 4, "and one batch of the new version"
    before = len(decided.started)
    decided.settle()
    assert len(decided.started) > before
    assert {one.row.version for one in decided.world.instances_of(KEY)}.isdisjoint({good})
    assert decided.status().status == "HEALTHY"


def test_power_cut_during_an_update_that_fails_leaves_the_old_version_at_strength() -> None:
    for auto_rollback in (True, False):
        decided = Decided()
        options = {"num_replicas": 2, "auto_rollback": auto_rollback}
        decided.deploy(version="v1", model={**options, "children": ["helper"]}, helper={})
        decided.settle()
        good = {row.version for row in decided.started}
        decided.outcome = lambda row, good=good: UP if row.version in good else RAISES
        decided.deploy(version="v2", model=options)
        power_cut(decided)
        decided.settle()
        assert {one.row.version for one in decided.world.instances_of(KEY)} <= good
        assert len(decided.listed()) == 2, "before the new version was given up"
        assert decided.listed(HELPER), "which the old version calls"
        decided.advance(600)
        assert decided.status().status == "DEPLOY_FAILED"
        assert len(decided.listed()) == 2
        assert decided.listed(HELPER)
        power_cut(decided)
        decided.settle()
        assert len(decided.listed()) == 2
        assert {one.row.version for one in decided.world.instances_of(KEY)} <= good


def test_power_cut_during_an_update_on_a_full_machine_comes_to_an_end() -> None:
    for gpus in (("0",), ("0", "1"), ("0", "1", "2")):
        decided = Decided(Supply(num_cpus=2, memory=1 << 30, gpu_ids=gpus))
        options = {"num_replicas": len(gpus), "ray_actor_options": {"num_gpus": 1}}
        decided.deploy(version="v1", model=options)
        decided.settle()
        good = decided.started[0].version
        decided.deploy(version="v2", model=options)
        power_cut(decided)
        decided.settle()
        assert decided.status().status == "HEALTHY"
        assert {one.row.version for one in decided.world.instances_of(KEY)}.isdisjoint({good})
        decided.outcome = lambda row: RAISES
        good = decided.started[-1].version
        decided.deploy(version="v3", model=options)
        power_cut(decided)
        decided.outcome = lambda row, good=good: UP if row.version == good else RAISES
        decided.settle()
        decided.advance(600)
        assert {one.row.version for one in decided.world.instances_of(KEY)} == {good}
        assert len(decided.listed()) == len(gpus)


def test_old_replica_that_dies_during_an_update_is_replaced_by_one_of_its_version() -> None:
    decided = Decided()
    decided.deploy(version="v1", model={"num_replicas": 2})
    decided.settle()
    good = decided.started[0].version
    decided.outcome = lambda row: UP if row.version == good else RAISES
    decided.deploy(version="v2", model={"num_replicas": 2})
    decided.die(decided.listed()[0])
    decided.settle()
    assert len(decided.listed()) == 2


def test_old_replica_that_is_started_later_is_started_beside_what_a_newer_update_supersedes() -> None:
    decided = Decided()
    decided.deploy(version="v1")
    decided.settle()
    good = decided.started[0].version
    decided.deploy(version="v2")
    decided.die(decided.listed()[0])
    decided.perform(decided.pending.pop())
    decided.die(decided.listed()[0])
    assert decided.states() == {"STARTING": 1}, "of the second version; that of the first one waits"
    decided.deploy(version="v3")
    decided.settle()
    assert decided.states() == {"RUNNING": 1}
    assert decided.status().status == "HEALTHY"
    assert good in {one.version for one in decided.started[2:]}
