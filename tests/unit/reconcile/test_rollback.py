"""An update that is given up is taken back where that was asked for."""

from __future__ import annotations

import json

from tests.decided import RAISES, TRACEBACK, UP, Decided, application

from eagleray.reconcile import events as e
from eagleray.reconcile.instance import Trigger

KEY = "default#model"


def deployed_twice(**options: object) -> tuple[Decided, list[str], str]:
    """v1 is up, v2 comes up once and fails then; returns the world, v1's replicas and its version."""
    decided = Decided()
    decided.deploy(version="v1", model={"num_replicas": 4, **options})
    decided.settle()
    before = decided.listed()
    good = decided.started[0].version
    seen: list[str] = []

    def outcome(row: object) -> str:
        version = getattr(row, "version", "")
        seen.append(version)
        return UP if version == good or len([one for one in seen if one != good]) == 1 else RAISES

    decided.outcome = outcome
    decided.deploy(version="v2", model={"num_replicas": 4, **options})
    decided.settle()
    return decided, before, good


def versions(decided: Decided) -> set[str]:
    return {one.row.version for one in decided.world.instances_of(KEY)}


def test_all_of_the_failed_version_go_and_the_status_says_so() -> None:
    decided, before, good = deployed_twice(auto_rollback=True)
    decided.advance(60)
    assert versions(decided) == {good}
    assert decided.states() == {"RUNNING": 4}
    assert len(set(before) & set(decided.listed())) == 3, "the one that had gone came back as another"
    status = decided.status()
    assert status.status == "DEPLOY_FAILED"
    assert decided.app().status == "DEPLOY_FAILED"
    assert "The update to version 'v2' failed" in status.message
    assert "was rolled back: version 'v1' serves until the next deploy" in status.message
    assert TRACEBACK in status.message


def test_without_it_what_came_up_stays() -> None:
    decided, _, _ = deployed_twice()
    decided.advance(60)
    assert len(versions(decided)) == 2
    assert decided.status().status == "DEPLOY_FAILED"
    assert "rolled back" not in decided.status().message


def test_it_survives_the_controller_and_ends_with_the_next_deploy() -> None:
    decided, _, good = deployed_twice(auto_rollback=True)
    decided.restart()
    decided.settle()
    decided.advance(60)
    assert versions(decided) == {good}
    assert decided.status().status == "DEPLOY_FAILED"
    assert "rolled back" in decided.status().message
    decided.die(decided.listed()[0])
    decided.settle()
    assert decided.states() == {"RUNNING": 4}
    assert versions(decided) == {good}
    decided.outcome = lambda row: UP
    decided.deploy(version="v3", model={"num_replicas": 4, "auto_rollback": True})
    decided.settle()
    assert decided.status().status == "HEALTHY"
    assert versions(decided).isdisjoint({good})


def test_a_version_with_other_options_is_told_from_itself() -> None:
    decided = Decided()
    decided.deploy(model={"auto_rollback": True})
    decided.settle()
    decided.outcome = lambda row: TRACEBACK
    variables = {"runtime_env": {"env_vars": {"LEVEL": "wrong"}}}
    decided.deploy(model={"auto_rollback": True, "ray_actor_options": variables})
    decided.settle()
    decided.advance(60)
    message = decided.status().message
    assert "was rolled back" in message and "with its former configuration serves" in message


def test_sick_replicas_of_the_new_version_count() -> None:
    decided = Decided()
    options = {"num_replicas": 3, "auto_rollback": True, "health_check_period_s": 1}
    decided.deploy(version="v1", model=options)
    decided.settle()
    good = decided.started[0].version
    decided.deploy(version="v2", model=options)
    while not decided.world.deployments[KEY].row.rollout.halted:
        if decided.pending:
            decided.perform(decided.pending.pop(0))
        elif decided.leaving():
            decided.apply(e.Happened(decided.leaving()[0], Trigger.UNLISTED))
        else:
            decided.wait_for_alarm()
        for one in decided.world.instances_of(KEY):
            if one.row.version != good and one.is_listed:
                decided.die(one.row.ref)
    assert len(decided.listed()) >= 2, "one old replica may have gone, no more"
    decided.settle()
    decided.advance(60)
    assert decided.status().status == "DEPLOY_FAILED"
    assert versions(decided) == {good}
    assert decided.states() == {"RUNNING": 3}


def test_refused_configuration_is_taken_back_from_those_that_took_it() -> None:
    decided = Decided()
    options = {"num_replicas": 3, "auto_rollback": True}
    decided.deploy(model={**options, "user_config": 1})
    decided.settle()
    before = decided.listed()
    refuses = before[1]
    decided.reconfigure = lambda ref: TRACEBACK if ref == refuses else ""
    decided.deploy(model={**options, "user_config": 2})
    decided.settle()
    assert decided.listed() == before
    assert {one.row.config.user_config for one in decided.world.instances_of(KEY)} == {"1"}
    assert decided.status().status == "DEPLOY_FAILED"
    assert "with its former configuration" in decided.status().message


def test_replica_that_cannot_go_back_is_replaced() -> None:
    decided = Decided()
    options = {"num_replicas": 2, "auto_rollback": True}
    decided.deploy(model={**options, "user_config": 1})
    decided.settle()
    first, second = decided.listed()
    told: list[str] = []

    def reconfigure(ref: str) -> str:
        told.append(ref)
        return "" if told == [first] else TRACEBACK

    decided.reconfigure = reconfigure
    decided.deploy(model={**options, "user_config": 2})
    decided.settle()
    assert told == [first, second, first]
    assert first not in decided.listed()
    assert {one.row.config.user_config for one in decided.world.instances_of(KEY)} == {"1"}
    assert decided.states() == {"RUNNING": 2}


def test_declared_applications_have_it_by_default() -> None:
    for source, expected in (("declarative", True), ("imperative", False)):
        decided = Decided()
        spec = json.loads(application()) | {"source": source}
        decided.apply(e.Deployed("default", json.dumps(spec), 0.0))
        target = decided.world.deployments[KEY].target
        assert target is not None
        assert target.auto_rollback is expected


def crash_loop(decided: Decided, bad: str, seconds: float) -> None:
    """Replicas of the version `bad` die as soon as they are up."""
    until = decided.now + seconds
    while decided.now < until:
        for one in decided.world.instances_of(KEY):
            if one.row.version == bad and one.is_listed:
                decided.die(one.row.ref)
        decided.settle()
        decided.advance(0.25)


def reached_and_crashing(**options: object) -> tuple[Decided, str, str]:
    """v2 has taken over from v1; returns the world and both versions."""
    decided = Decided()
    decided.deploy(version="v1", model=options)
    decided.settle()
    good = decided.started[0].version
    decided.deploy(version="v2", model=options)
    decided.settle()
    assert decided.status().status == "HEALTHY"
    return decided, good, decided.started[-1].version


def test_a_version_that_dies_at_its_first_requests_is_taken_back_soon_after_it_was_reached() -> None:
    for count in (1, 4):
        decided, good, bad = reached_and_crashing(num_replicas=count, auto_rollback=True)
        crash_loop(decided, bad, 15)
        assert versions(decided) == {good}
        assert decided.states() == {"RUNNING": count}
        assert decided.status().status == "DEPLOY_FAILED"
        assert "was rolled back: version 'v1' serves" in decided.status().message
        decided.restart()
        decided.settle()
        decided.advance(600)
        assert versions(decided) == {good}
        assert decided.status().status == "DEPLOY_FAILED"
        decided.deploy(version="v3", model={"num_replicas": count, "auto_rollback": True})
        decided.settle()
        assert decided.status().status == "HEALTHY"


def test_without_rollback_a_crash_loop_backs_off_and_stays_unhealthy() -> None:
    decided, _, bad = reached_and_crashing()
    crash_loop(decided, bad, 3)
    started = len(decided.started)
    for _ in range(4):
        while not decided.listed():
            decided.wait_for_alarm()
            decided.settle()
        assert decided.status().status == "UNHEALTHY", "that another one is up says nothing yet"
        assert "EOF" in decided.status().message
        crash_loop(decided, bad, 5)
    assert len(decided.started) - started <= 4
    assert versions(decided) <= {bad}
    decided.advance(60)
    assert decided.status().status == "HEALTHY"


def test_a_version_that_lasted_is_not_taken_back() -> None:
    decided, _, bad = reached_and_crashing(auto_rollback=True)
    assert decided.world.deployments[KEY].row.former is not None
    decided.advance(61)
    assert decided.world.deployments[KEY].row.former is None
    crash_loop(decided, bad, 15)
    assert versions(decided) <= {bad}
    assert decided.status().status == "UNHEALTHY"


def test_nothing_is_taken_back_to_a_version_whose_callee_has_gone() -> None:
    decided = Decided()
    decided.deploy(version="v1", model={"auto_rollback": True, "children": ["helper"]}, helper={})
    decided.settle()
    decided.deploy(version="v2", model={"auto_rollback": True})
    decided.settle()
    bad = decided.started[-1].version
    crash_loop(decided, bad, 15)
    assert versions(decided) <= {bad}
    assert decided.status().status == "UNHEALTHY"
