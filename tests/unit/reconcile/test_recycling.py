"""Replicas that have served their time are replaced, one batch at a time."""

from __future__ import annotations

from tests.decided import RAISES, UP, Decided

from eagleray.reconcile import events as e
from eagleray.reconcile.recycling import SPREAD, share

KEY = "default#model"


def test_age_replaces_each_replica_within_its_share() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 4, "max_replica_age_s": 1000})
    decided.settle()
    before = decided.listed()
    decided.advance(1000 * (1 - SPREAD) - 1)
    assert decided.listed() == before
    decided.advance(1000 * SPREAD + 1)
    assert not set(before) & set(decided.listed())
    assert decided.states() == {"RUNNING": 4}
    assert decided.status().status == "HEALTHY"


def test_age_goes_on_after_a_restart_of_the_controller() -> None:
    decided = Decided()
    decided.deploy(model={"max_replica_age_s": 1000})
    decided.settle()
    (before,) = decided.listed()
    decided.advance(600)
    decided.restart()
    decided.settle()
    decided.advance(399)
    decided.settle()
    decided.advance(1)
    assert before not in decided.listed()
    assert decided.states() == {"RUNNING": 1}


def test_shares_differ() -> None:
    shares = {share(f"replica{number}") for number in range(20)}
    assert len(shares) == 20
    assert all(0 <= one < 1 for one in shares)


def test_memory_above_the_limit_expires() -> None:
    decided = Decided()
    decided.deploy(model={"num_replicas": 2, "max_replica_rss_bytes": 1000})
    decided.settle()
    big, small = decided.listed()
    decided.apply(e.HealthChecked(small, rss_bytes=1000))
    decided.apply(e.HealthChecked(big, rss_bytes=1001))
    assert decided.listed() == [big, small], "it serves until its successor is up"
    assert "max_replica_rss_bytes=1000" in decided.world.instances[big].row.expired
    decided.settle()
    assert big not in decided.listed()
    assert small in decided.listed()


def test_expired_replica_stays_while_its_successor_does_not_start() -> None:
    decided = Decided()
    decided.deploy()
    decided.settle()
    (before,) = decided.listed()
    decided.outcome = lambda row: RAISES
    decided.apply(e.Expired(before, "it wants to"))
    decided.settle()
    decided.advance(300)
    assert decided.listed() == [before]
    decided.restart()
    decided.outcome = lambda row: UP
    decided.settle()
    decided.advance(31)
    assert decided.states() == {"RUNNING": 1}
    assert before not in decided.listed()


def test_expired_replica_of_an_update_that_was_given_up_is_replaced_by_its_own_version() -> None:
    decided = Decided()
    decided.deploy(version="v1")
    decided.settle()
    (before,) = decided.listed()
    good = decided.started[0].version
    decided.outcome = lambda row: UP if row.version == good else RAISES
    decided.deploy(version="v2")
    decided.settle()
    decided.advance(5)
    decided.apply(e.Expired(before, "it wants to"))
    decided.settle()
    (after,) = decided.listed()
    assert after != before
    assert decided.world.instances[after].row.version == good
    assert decided.status().status == "DEPLOY_FAILED"


def test_expiry_of_what_goes_already_changes_nothing() -> None:
    decided = Decided()
    decided.deploy()
    decided.settle()
    (before,) = decided.listed()
    decided.holds_leaving = True
    decided.deploy(version="v2")
    decided.settle()
    decided.apply(e.Expired(before, "late"))
    decided.apply(e.Expired("replica-unknown", "late"))
    assert decided.world.instances[before].row.expired == ""
