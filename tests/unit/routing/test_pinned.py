"""Calls for one replica and no other: they wait for it alone, and go when it does."""

from __future__ import annotations

import pytest
from tests.property.test_pool import Call, Everywhere, Pinned, World

from eagleray.base.errors import DeploymentUnavailableError, EaglerayError, ReplicaUnavailableError
from eagleray.routing.call import DONE, QUEUED, SENT
from eagleray.routing.pool import Pool
from eagleray.routing.table import DeploymentEntry, ReplicaEntry
from eagleray.wire.messages import DRAINING, REJECTED, ErrorHead, ReplyHead


def entry(*replicas: str, max_queued: int = -1, failed: str = "") -> DeploymentEntry:
    return DeploymentEntry(
        "app", "d", tuple(ReplicaEntry(name, f"unix:/{name}", 1) for name in replicas), max_queued, failed
    )


def make(*replicas: str, max_queued: int = -1) -> tuple[World, Pool]:
    world = World()
    pool = Pool("app#d", world, lambda: world.now)
    pool.update(entry(*replicas, max_queued=max_queued))
    return world, pool


def refused(world: World, number: int, call: Pinned, code: str = REJECTED) -> None:
    world.links[number].open.remove(call)
    call.on_error(ErrorHead(code, "", 1), b"")


def test_a_full_replica_is_waited_for_though_another_one_is_free() -> None:
    world, pool = make("a", "b", max_queued=0)
    call = Pinned()
    call.pin(pool.targets[0])
    refused(world, 0, call)
    assert call.state == QUEUED and pool.queued == 0, "no limit of the queue counts it"
    assert pool.targets[0].in_flight == 0 and not world.links[1].open
    pool.targets[0].on_room(world.links[0])  # type: ignore[arg-type]
    assert call.state == SENT and world.links[0].open == [call]
    call.on_reply(ReplyHead(0), b"", True)
    assert call.ends == 1 and [target.in_flight for target in pool.targets] == [0, 0]


def test_room_is_for_those_who_wait_for_it_alone_first() -> None:
    world, pool = make("a")
    running, plain, call = Call(), Call(), Pinned()
    pool.submit(running)
    call.pin(pool.targets[0])
    refused(world, 0, call)
    pool.submit(plain)
    assert plain.state == QUEUED
    pool.targets[0].on_room(world.links[0])  # type: ignore[arg-type]
    world.links[0].open.remove(running)
    running.on_reply(ReplyHead(1), b"", True)
    assert (call.state, plain.state) == (SENT, QUEUED)


@pytest.mark.parametrize("how", ["draining", "goaway", "retired", "deleted"])
def test_a_replica_that_goes_takes_the_waiting_with_it(how: str) -> None:
    world, pool = make("a", "b")
    target = pool.targets[0]
    call = Pinned()
    call.pin(target)
    refused(world, 0, call, DRAINING if how == "draining" else REJECTED)
    if how == "goaway":
        target.on_goaway(world.links[0])  # type: ignore[arg-type]
    elif how != "draining":
        pool.update(entry("b") if how == "retired" else None)
    assert call.state == DONE and call.ends == 1 and target.in_flight == 0
    assert isinstance(call.error, ReplicaUnavailableError)


def test_it_waits_for_the_connection() -> None:
    world, pool = make("a")
    target, link = pool.targets[0], world.links[0]
    target.client = None
    call = Pinned()
    call.pin(target)
    assert call.state == QUEUED
    target.client = link  # type: ignore[assignment]
    pool.on_connected()
    assert call.state == SENT


def test_one_that_waits_can_be_cancelled() -> None:
    world, pool = make("a")
    call = Pinned()
    call.pin(pool.targets[0])
    refused(world, 0, call)
    call.cancel()
    call.cancel()
    assert call.ends == 1 and not pool.targets[0].pinned
    pool.targets[0].on_room(world.links[0])  # type: ignore[arg-type]
    assert not world.links[0].open


def test_all_replicas_but_those_that_are_leaving() -> None:
    _, pool = make("a", "b", "c")
    pool.targets[1].draining = True
    everywhere = Everywhere()
    pool.spread(everywhere)
    assert [call.target for call in everywhere.calls] == [pool.targets[0], pool.targets[2]]


def test_a_deployment_that_no_table_names_yet_is_waited_for() -> None:
    world = World()
    pool = Pool("app#d", world, lambda: world.now)
    everywhere, late = Everywhere(), Everywhere()
    pool.spread(everywhere)
    assert not everywhere.told
    pool.update(entry("a", "b"))
    assert len(everywhere.calls) == 2
    pool.update(None)
    pool.spread(late)
    pool.fail_unavailable("it does not exist")
    assert late.told == 1 and not late.calls and not pool.fanouts


def test_one_that_failed_to_deploy_is_not() -> None:
    errors: list[EaglerayError] = []

    class Failing(Everywhere):
        def on_failed(self, error: EaglerayError) -> None:
            errors.append(error)

    world = World()
    pool = Pool("app#d", world, lambda: world.now)
    pool.spread(Failing())
    pool.update(entry(failed="no"))
    pool.spread(Failing())
    assert [type(error) for error in errors] == [DeploymentUnavailableError] * 2


def test_the_end_of_the_pool_is_theirs() -> None:
    world, pool = make("a")
    call = Pinned()
    call.pin(pool.targets[0])
    refused(world, 0, call)
    end = EaglerayError("the end")
    pool.close(end)
    assert call.error is end and call.ends == 1
