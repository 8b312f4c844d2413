"""Calls that a replica refuses join the queue, and count there like all others."""

from __future__ import annotations

from tests.property.test_pool import Call, World

from eagleray.base.errors import BackPressureError
from eagleray.routing.call import DONE, QUEUED, SENT
from eagleray.routing.pool import Pool
from eagleray.routing.table import DeploymentEntry, ReplicaEntry
from eagleray.wire.messages import REJECTED, ErrorHead, ReplyHead


def reject(world: World, call: Call) -> None:
    """The one replica is full."""
    world.links[0].open.remove(call)
    call.on_error(ErrorHead(REJECTED, "", 2), b"")


def test_a_refused_call_that_was_never_queued_may_be_one_too_many() -> None:
    world = World()
    pool = Pool("app#d", world, lambda: world.now)
    pool.update(DeploymentEntry("app", "d", (ReplicaEntry("r", "unix:/r", 2),), 1))
    first, second, third = Call(), Call(), Call()
    for call in (first, second, third):
        pool.submit(call)
    assert [call.state for call in (first, second, third)] == [SENT, SENT, QUEUED]
    reject(world, second)
    assert second.state == DONE and isinstance(second.error, BackPressureError) and second.ends == 1
    assert pool.queued == 1
    # One that has waited already keeps its place, at the head.
    world.links[0].open.remove(first)
    first.on_reply(ReplyHead(1), b"", True)
    pool.targets[0].on_room(world.links[0])  # type: ignore[arg-type]
    assert third.state == SENT and pool.queued == 0
    reject(world, third)
    assert third.state == QUEUED and third.error is None and pool.queued == 1


def test_a_refused_call_goes_before_those_that_came_later() -> None:
    world = World()
    pool = Pool("app#d", world, lambda: world.now)
    pool.update(DeploymentEntry("app", "d", (ReplicaEntry("r", "unix:/r", 1),), 3))
    early, late, later = Call(), Call(), Call()
    for call in (early, late, later):
        pool.submit(call)
    reject(world, early)
    assert pool.queued == 3
    pool.targets[0].on_room(world.links[0])  # type: ignore[arg-type]
    assert [call.state for call in (early, late, later)] == [SENT, QUEUED, QUEUED]
