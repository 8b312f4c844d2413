"""The routing table while deployments go: callers need those they call until they are gone themselves."""

from __future__ import annotations

from tests.decided import Decided

from eagleray.controller.listing import routing_table
from eagleray.reconcile import events as e

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
