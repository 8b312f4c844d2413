"""Replicas that are replaced although nothing is wrong with them: successors come first, and no call is lost."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from tests.processes import still_alive
from tests.waiting import wait_until

from eagleray import serve
from eagleray.base.errors import ReplicaUnavailableError

pytestmark = pytest.mark.usefixtures("instance")


class Recycled:
    def __init__(self) -> None:
        self.kept: list[bytearray] = []

    async def __call__(self) -> int:
        return os.getpid()

    async def leave(self) -> int:
        serve.get_replica_context().exit()
        serve.get_replica_context().exit()
        return os.getpid()

    async def grow(self, size: int) -> int:
        self.kept.append(bytearray(os.urandom(1)) * size)
        return os.getpid()


def deploy(name: str, **options: Any) -> Any:
    return serve.run(
        serve.deployment(name="recycled", **options)(Recycled).bind(), name=name, route_prefix=None
    )


async def calls_until(handle: Any, done: Any) -> set[int]:
    """Calls without a pause until `done(pids so far)`; the pids that have answered."""
    pids: set[int] = set()

    async def call() -> None:
        while not done(pids):
            pids.add(await handle.remote())

    async with asyncio.timeout(60):
        await asyncio.gather(*(call() for _ in range(4)))
    return pids


def test_replica_that_has_taken_its_requests_is_replaced() -> None:
    handle = deploy("counted", num_replicas=2, max_requests_per_replica=50)
    pids = asyncio.run(calls_until(handle, lambda pids: len(pids) >= 6))
    wait_until(lambda: len(still_alive(pids)) <= 2, what="the old ones have gone")
    assert serve.status().applications["counted"].status == "RUNNING"
    serve.delete("counted")


def test_replica_leaves_by_its_own_wish() -> None:
    handle = deploy("leaving", num_replicas=2)
    left = handle.leave.remote().result(timeout_s=30)

    def done(pids: set[int]) -> bool:
        return len(pids - {left}) >= 2 and not still_alive({left})

    asyncio.run(calls_until(handle, done))
    assert serve.status().applications["leaving"].deployments["recycled"].replica_states["RUNNING"] == 2
    serve.delete("leaving")


def test_replica_that_has_grown_is_replaced() -> None:
    handle = deploy("grown", max_replica_rss_bytes=400 << 20, health_check_period_s=0.1)
    grown = handle.grow.remote(500 << 20).result(timeout_s=60)
    pids = asyncio.run(calls_until(handle, lambda pids: bool(pids - {grown})))
    assert pids - {grown}
    wait_until(lambda: not still_alive({grown}), what="it has gone")
    serve.delete("grown")


def test_reservation_may_be_dispatched_during_a_drain_and_does_not_hold_it_up() -> None:
    handle = deploy("held", graceful_shutdown_timeout_s=300)
    before = handle.remote().result(timeout_s=30)

    async def main() -> None:
        async with handle.choose_replica() as first, handle.choose_replica() as second:
            await asyncio.to_thread(deploy, "held", graceful_shutdown_timeout_s=300)
            assert await handle.remote() != before
            assert await handle.dispatch(first) == before
            await asyncio.to_thread(wait_until, lambda: not still_alive({before}), "the old one has gone")
            with pytest.raises(ReplicaUnavailableError):
                await handle.dispatch(second)

    asyncio.run(main())
    serve.delete("held")
