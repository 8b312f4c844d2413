"""The routing table while deployments go: callers need those they call until they are gone themselves."""

from __future__ import annotations

from tests.decided import RAISES, Decided

from eagleray.controller.listing import routing_table
from eagleray.reconcile import events as e
from eagleray.reconcile.instance import Trigger

CHAIN = {"front": {"children": ["back"]}, "back": {}}


def test_a_deployment_that_goes_is_listed_for_its_callers_and_has_no_route() -> None:
    decided = Decided()
    decided.deploy(**CHAIN)
    decided.settle()
    decided.apply(e.DeleteRequested(("default",)))
    table = routing_table(decided.world, 1, "/run")
    assert table.routes == ()
    assert table.ingress == {}
    assert "default#front" not in table.deployments
    assert len(table.deployments["default#back"].replicas) == 1
    decided.settle()
    assert routing_table(decided.world, 2, "/run").deployments == {}


def test_requests_wait_for_the_former_version_when_an_update_was_given_up() -> None:
    decided = Decided()
    decided.deploy(model={"max_constructor_retry_count": 1})
    decided.settle()
    (former,) = decided.alive
    decided.outcome = lambda row: RAISES
    decided.deploy(model={"max_constructor_retry_count": 1, "version": "v2"})
    decided.apply(e.Happened(former, Trigger.EXITED, "killed"))
    decided.alive.discard(former)
    decided.settle()
    table = routing_table(decided.world, 1, "/run")
    assert decided.world.deployments["default#model"].row.rollout.halted
    entry = table.deployments["default#model"]
    assert (entry.replicas, entry.failed) == ((), "")


def test_a_first_version_that_was_given_up_is_said_to_have_failed() -> None:
    decided = Decided()
    decided.outcome = lambda row: RAISES
    decided.deploy(model={"max_constructor_retry_count": 1})
    decided.settle()
    assert routing_table(decided.world, 1, "/run").deployments["default#model"].failed
