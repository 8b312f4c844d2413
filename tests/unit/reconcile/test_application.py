"""Applications as a whole: builds, deletion in tiers, shutdown, restart of the controller."""

from __future__ import annotations

import json

import pytest
from tests.decided import REJECTED, UP, Decided, application

from eagleray.controller.listing import routing_table
from eagleray.reconcile import commands as c
from eagleray.reconcile import events as e
from eagleray.reconcile.instance import (
    COUNTED,
    TABLE,
    IllegalTransitionError,
    Instance,
    InstanceRow,
    InstanceState,
    Trigger,
)
from eagleray.reconcile.status import proxy_error, serve_status
from eagleray.reconcile.target import GRPC_PROXY_KEY

CHAIN = {"front": {"children": ["middle"]}, "middle": {"children": ["back"]}, "back": {}}


def test_delete_goes_from_callers_to_callees() -> None:
    decided = Decided()
    decided.deploy(**CHAIN)
    decided.settle()
    decided.apply(e.DeleteRequested(("default",)))
    assert decided.app().status == "DELETING"
    assert decided.status(deployment="front").status_trigger == "DELETING"
    assert not decided.listed("default#front")
    assert len(decided.listed("default#middle")) == len(decided.listed("default#back")) == 1
    decided.settle()
    assert not decided.world.applications
    assert not decided.world.deployments
    assert not decided.alive


def test_deployments_that_vanish_from_an_application_go() -> None:
    decided = Decided()
    decided.deploy(**CHAIN)
    decided.settle()
    kept = decided.listed("default#front")
    decided.deploy(front={"children": ["middle"]}, middle={})
    decided.settle()
    assert decided.listed("default#front") == kept
    assert set(decided.world.deployments) == {"default#front", "default#middle"}
    assert decided.app().status == "RUNNING"


def test_circle_of_handles_does_not_block_deletion() -> None:
    decided = Decided()
    decided.deploy(a={"children": ["b"]}, b={"children": ["a"]})
    decided.settle()
    decided.apply(e.DeleteRequested(("default",)))
    decided.settle()
    assert not decided.alive


def test_other_applications_are_not_touched() -> None:
    decided = Decided()
    decided.deploy("one", route_prefix="/one")
    decided.deploy("two", route_prefix="/two")
    decided.settle()
    two = decided.listed("two#model")
    decided.deploy("one", route_prefix="/one", version="v2")
    decided.apply(e.DeleteRequested(("nobody",)))
    decided.settle()
    assert decided.listed("two#model") == two


def test_redeploy_while_deleting_brings_it_back() -> None:
    decided = Decided()
    decided.deploy()
    decided.settle()
    decided.apply(e.DeleteRequested(("default",)))
    decided.deploy()
    decided.settle()
    assert decided.app().status == "RUNNING"
    assert decided.states() == {"RUNNING": 1}


def test_import_is_built_once_and_again_after_a_restart() -> None:
    decided = Decided()
    decided.apply(e.ImportRequested("default", e.BuildRequest("app:main"), 0.0))
    decided.settle()
    assert decided.app().status == "DEPLOYING"
    assert len(decided.builds) == 1
    decided.restart()
    decided.settle()
    assert len(decided.builds) == 2
    generation = decided.builds[-1].generation
    decided.apply(e.Built("default", generation, application()))
    decided.settle()
    assert decided.app().status == "RUNNING"


def test_build_that_was_overtaken_is_ignored() -> None:
    decided = Decided()
    decided.apply(e.ImportRequested("default", e.BuildRequest("app:main"), 0.0))
    decided.deploy(version="newer")
    decided.apply(e.Built("default", 1, application(version="older")))
    decided.settle()
    assert decided.world.deployments["default#model"].target.code_version == "newer"  # type: ignore[union-attr]


def test_a_build_that_nobody_wants_any_more_is_stopped() -> None:
    decided = Decided()
    decided.apply(e.ImportRequested("default", e.BuildRequest("app:main"), 0.0))
    decided.apply(e.ImportRequested("other", e.BuildRequest("app:main"), 0.0))
    decided.settle()
    assert [one.name for one in decided.builds] == ["default", "other"]
    decided.apply(e.DeleteRequested(("default",)))
    decided.settle()
    assert "default" not in decided.world.applications
    assert [one.name for one in decided.builds] == ["other"]


def test_failed_build_keeps_what_runs() -> None:
    decided = Decided()
    decided.deploy()
    decided.settle()
    before = decided.listed()
    decided.apply(e.ImportRequested("default", e.BuildRequest("app:main"), 0.0))
    decided.apply(e.BuildFailed("default", 2, "ModuleNotFoundError: app"))
    assert decided.app().status == "DEPLOY_FAILED"
    assert decided.app().message == "ModuleNotFoundError: app"
    assert decided.listed() == before


def test_shutdown_stops_applications_and_proxies_then_ends() -> None:
    decided = Decided()
    decided.want_proxy()
    decided.deploy(**CHAIN)
    decided.settle()
    decided.apply(e.ShutdownRequested())
    assert isinstance(decided.pending[0], c.CloseListeners), "before the proxy is told to stop"
    assert decided.states("#http") == {"LEAVING": 1}, "it finishes what it has, and no other one comes"
    assert routing_table(decided.world, 1, "/run").leaving
    decided.settle()
    assert decided.has_ended
    assert not decided.rows()


def test_shutdown_goes_on_after_a_restart() -> None:
    decided = Decided()
    decided.want_proxy()
    decided.deploy()
    decided.settle()
    decided.apply(e.ShutdownRequested())
    decided.restart()
    assert decided.world.is_closing
    decided.apply(e.ShutdownRequested())
    decided.settle()
    assert decided.has_ended


def test_restart_adopts_what_lives_and_restarts_nothing() -> None:
    decided = Decided()
    decided.want_proxy()
    decided.deploy(model={"num_replicas": 3})
    decided.settle()
    before, started = decided.listed(), len(decided.started)
    decided.restart()
    assert decided.states() == {"RECOVERING": 3}
    assert decided.listed() == before, "it stays in the routing table"
    decided.settle()
    assert decided.states() == {"RUNNING": 3}
    assert decided.listed() == before
    assert len(decided.started) == started
    assert decided.status().status == "HEALTHY"


def test_restart_replaces_what_died_meanwhile() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 2})
    decided.settle()
    gone = decided.listed()[0]
    decided.alive.discard(gone)
    decided.restart()
    assert gone not in decided.listed()
    decided.settle()
    assert decided.states() == {"RUNNING": 2}


def test_restart_between_acceptance_and_rollout_begins_the_rollout() -> None:
    decided = Decided()
    decided.deploy(version="v1")
    decided.settle()
    rows = {(table, key): value for table, key, value in decided.rows()}
    decided.deploy(version="v2")
    decided.rows()
    decided.stored = {
        place: (value if place[0] == "applications" else rows[place])
        for place, value in decided.stored.items()
        if place in rows
    }
    decided.pending.clear()
    decided.restart()
    assert decided.status().status == "UPDATING"
    decided.settle()
    assert decided.status().status == "HEALTHY"
    assert {one.row.version for one in decided.world.instances.values()} == {decided.started[-1].version}


def test_http_error_is_the_reason_of_the_engine() -> None:
    decided = Decided()
    decided.outcome = lambda row: REJECTED
    decided.want_proxy()
    assert proxy_error(decided.world) == ""
    decided.settle()
    assert proxy_error(decided.world) == "port in use"
    assert serve_status(decided.world).proxies == {}


def test_a_grpc_proxy_is_a_system_deployment_of_its_own() -> None:
    decided = Decided()
    decided.want_proxy()
    decided.outcome = lambda row: REJECTED if row.owner == GRPC_PROXY_KEY else UP
    decided.want_proxy(GRPC_PROXY_KEY)
    decided.settle()
    assert proxy_error(decided.world) == ""
    assert proxy_error(decided.world, GRPC_PROXY_KEY) == "port in use"
    decided.outcome = lambda row: UP
    decided.advance(60)
    decided.settle()
    assert proxy_error(decided.world, GRPC_PROXY_KEY) == ""
    assert list(serve_status(decided.world).proxies.values()) == ["HEALTHY", "HEALTHY"]
    decided.apply(e.ShutdownRequested())
    decided.settle()
    assert decided.world.has_ended and not decided.world.instances


def test_serve_status_counts_replicas() -> None:
    decided = Decided()
    decided.want_proxy()
    decided.deploy(model={"num_replicas": 2})
    decided.perform(decided.pending.pop(0))
    decided.perform(decided.pending.pop(0))
    status = serve_status(decided.world)
    assert list(status.proxies.values()) == ["HEALTHY"]
    assert status.applications["default"].deployments["model"].replica_states == {"RUNNING": 1, "STARTING": 1}
    assert type(status).from_json(status.to_json()) == status


def test_illegal_transition_tells_the_history() -> None:
    instance = Instance(InstanceRow("r", "a#b", "id", "v"))
    instance.fire(Trigger.READY)
    with pytest.raises(IllegalTransitionError, match=r"STARTING -ready-> RUNNING"):
        instance.fire(Trigger.DRAINED)


def test_every_state_can_end_and_none_comes_back() -> None:
    for state in InstanceState:
        if state is not InstanceState.STOPPED:
            assert TABLE[state, Trigger.EXITED] is InstanceState.STOPPED
    for (before, _), after in TABLE.items():
        assert before is not InstanceState.STOPPED
        assert before in COUNTED or after not in COUNTED, "what leaves never serves again"


def test_a_user_config_keeps_numbers_that_json_has_not() -> None:
    decided = Decided()
    decided.deploy(model={"user_config": {"limit": float("inf")}})
    target = decided.world.deployments["default#model"].target
    assert target is not None and json.loads(target.config.user_config) == {"limit": float("inf")}
