"""The ordered end of an instance: proxies, then callers, then callees, and what was deployed is kept."""

from __future__ import annotations

from tests.decided import Decided

from eagleray.controller.listing import routing_table
from eagleray.reconcile import commands as c
from eagleray.reconcile import events as e
from eagleray.reconcile.instance import Trigger


def deployed() -> Decided:
    decided = Decided()
    decided.want_proxy()
    decided.deploy(front={"children": ["back"], "num_replicas": 2}, back={})
    decided.settle()
    return decided


def going(decided: Decided) -> set[str]:
    return {decided.world.instances[ref].row.owner for ref in decided.leaving()}


def unlist(decided: Decided) -> None:
    for ref in decided.leaving():
        decided.apply(e.Happened(ref, Trigger.UNLISTED))
    while decided.pending:
        decided.perform(decided.pending.pop(0))


def test_everybody_is_told_and_served_before_anything_ends() -> None:
    decided = deployed()
    before = routing_table(decided.world, 1, "/run")
    decided.apply(e.LeavingBegun())
    after = routing_table(decided.world, 1, "/run")
    assert (before.leaving, after.leaving) == (False, True)
    assert after.deployments == before.deployments
    assert after.routes == before.routes
    assert not decided.leaving()


def test_nobody_listens_when_the_proxies_drain() -> None:
    for last in (e.DrainBegun(), e.ShutdownRequested()):
        decided = deployed()
        decided.apply(e.LeavingBegun())
        assert not decided.pending
        decided.apply(last)
        assert decided.pending == [c.CloseListeners()]
        assert "#http" in going(decided)
        (proxy,) = decided.world.instances_of("#http")
        decided.die(proxy.row.ref)
        decided.advance(60)
        assert not decided.listed("#http"), "no other one is wanted"
        decided.settle()
        assert decided.has_ended


def test_proxies_drain_for_as_long_as_any_replica_may() -> None:
    decided = Decided()
    decided.want_proxy()
    decided.deploy(model={"graceful_shutdown_timeout_s": 300})
    decided.settle()
    decided.apply(e.DrainBegun())
    (ref,) = decided.leaving()
    decided.apply(e.Happened(ref, Trigger.UNLISTED))
    assert decided.pending == [c.CloseListeners(), c.DrainInstance(ref, 300)]


def test_callers_go_first() -> None:
    decided = deployed()
    decided.apply(e.LeavingBegun())
    decided.apply(e.DrainBegun())
    order = []
    while decided.world.instances:
        order.append(going(decided))
        unlist(decided)
    assert order == [{"#http"}, {"default#front"}, {"default#back"}]
    decided.settle()
    assert decided.has_ended
    assert not decided.alive


def test_what_was_deployed_comes_back() -> None:
    decided = deployed()
    decided.apply(e.DrainBegun())
    decided.settle()
    assert decided.has_ended
    decided.restart()
    decided.want_proxy()
    decided.settle()
    assert decided.app().status == "RUNNING"
    assert decided.states("default#front") == {"RUNNING": 2}


def test_nothing_is_replaced_on_the_way() -> None:
    decided = deployed()
    decided.apply(e.DrainBegun())
    started = len(decided.started)
    for ref in sorted(decided.alive):
        decided.die(ref)
    decided.settle()
    decided.advance(60)
    assert len(decided.started) == started
    assert decided.has_ended


def test_shutdown_during_it_deletes() -> None:
    decided = deployed()
    decided.apply(e.DrainBegun())
    decided.apply(e.ShutdownRequested())
    decided.settle()
    assert decided.has_ended
    assert not decided.rows()


def test_it_may_begin_again_under_the_next_controller() -> None:
    decided = deployed()
    decided.apply(e.LeavingBegun())
    decided.restart()
    decided.want_proxy()
    decided.apply(e.LeavingBegun())
    decided.apply(e.DrainBegun())
    decided.settle()
    assert decided.has_ended
    assert not decided.alive
