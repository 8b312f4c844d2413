"""A router forgets deployments that were deleted, their pools and series, and finds them again when they are back."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.property.test_pool import Call, World

from eagleray.base.metrics import Registry
from eagleray.routing import Router, RoutingTable
from eagleray.routing.forgetting import FORGET_S
from eagleray.routing.table import DeploymentEntry, ReplicaEntry
from eagleray.wire.messages import USER, ErrorHead, ReplyHead

KEY = "app#d"


class VirtualRouter(Router):
    """In the time of a `World`, with connections that need nothing."""

    def __init__(self) -> None:
        self.world = World()
        super().__init__(clock=lambda: self.world.now, registry=Registry(), origin=("PROXY", "p1"))
        self.dial = self.world.dial  # type: ignore[method-assign]
        self.forgotten: list[str] = []
        self.on_forgotten = self.forgotten.append
        self.versions = 0

    def after(self, delay_s: float, callback: Any) -> Any:
        return self.world.after(delay_s, callback)

    def publish(self, *keys: str) -> None:
        """A table with these deployments, of a replica each."""
        self.versions += 1
        entries = {}
        for key in keys:
            app, _, name = key.partition("#")
            entries[key] = DeploymentEntry(app, name, (ReplicaEntry(f"{key}-1", f"unix:/{key}", 5),))
        self.update(RoutingTable(self.versions, deployments=entries))

    def call(self, key: str = KEY) -> Call:
        call = Call()
        call.key = key
        call.head.route = "/a"
        self.submit(call)
        return call

    def answer(self, call: Call) -> None:
        for link in self.world.links:
            if call in link.open:
                link.open.remove(call)
        call.on_reply(ReplyHead(0, took_us=7), b"", True)

    def series(self, app: str) -> set[str]:
        """Names of the metrics that have a series of the application."""
        return {
            one.name
            for one in self.registry.collect(everything=True)
            if any(app in sample.labels for sample in one.samples)
        }


def test_what_was_deleted_is_forgotten_after_a_while() -> None:
    router = VirtualRouter()
    router.publish(KEY, "other#d")
    other = router.open("other#d")
    router.answer(router.call())
    failed = router.call()
    failed.on_error(ErrorHead("internal", "broken"), b"")
    given_up = router.call()
    given_up.cancel()
    assert router.world.timers == [], "nothing to look for while the table names all pools"
    router.publish("other#d")
    assert len(router.series("app")) > 10
    router.answer(given_up)
    router.world.pass_time(FORGET_S - 1)
    assert router.load(KEY) is not None and router.forgotten == []
    router.world.pass_time(2)
    assert router.load(KEY) is None and router.forgotten == [KEY]
    assert router.series("app") == set()
    assert "serve_deployment_queued_queries" in router.series("other")
    assert router.open("other#d") is other
    assert router.world.timers == []


def test_its_counters_are_told_to_have_gone() -> None:
    router = VirtualRouter()
    router.publish(KEY)
    router.answer(router.call())
    router.registry.collect()
    router.publish()
    router.world.pass_time(FORGET_S + 1)
    gone = {one.name: one.gone for one in router.registry.collect()}
    assert gone["serve_num_router_requests"] == [("d", "/a", "app", "PROXY", "p1")]
    assert gone["serve_handle_request_counter"] == [("PROXY", "d", "/a", "app")]
    assert gone["serve_request_router_queue_len"] == [("d", f"{KEY}-1", "p1", "app", "PROXY")]


def test_a_call_that_still_runs_keeps_the_pool() -> None:
    router = VirtualRouter()
    router.publish(KEY)
    call = router.call()
    router.publish()
    router.world.pass_time(FORGET_S + 1)
    assert router.load(KEY) is not None
    router.publish()
    router.answer(call)
    assert call.ends == 1 and router.world.links[0].closed
    router.world.pass_time(FORGET_S - 1)
    assert router.load(KEY) is not None, "its time begins with the look that found it used"
    router.world.pass_time(2)
    assert router.load(KEY) is None


def test_a_deployment_that_comes_back_in_time_stays() -> None:
    router = VirtualRouter()
    router.publish(KEY)
    pool = router.open(KEY)
    for _ in range(3):
        router.publish()
        router.world.pass_time(FORGET_S - 1)
        router.publish(KEY)
        router.world.pass_time(2)
    assert router.open(KEY) is pool and router.forgotten == []


def test_a_deployment_that_comes_back_late_is_opened_anew() -> None:
    router = VirtualRouter()
    router.publish(KEY)
    router.answer(router.call())
    router.publish()
    router.world.pass_time(FORGET_S + 1)
    router.publish(KEY)
    call = router.call()
    assert router.ongoing(KEY) == 1
    call.on_error(ErrorHead(USER, ""), b"")
    assert call.ends == 1 and "serve_num_router_requests" in router.series("app")
    router.publish()
    router.world.pass_time(FORGET_S + 1)
    assert router.forgotten == [KEY, KEY] and router.series("app") == set()


def test_who_waits_for_an_unknown_deployment_has_a_time_of_its_own_after_a_former_pool() -> None:
    async def use() -> None:
        router = VirtualRouter()
        router.publish()
        first = router.call()
        router.world.pass_time(FORGET_S + 1)
        assert router.queued(KEY) == 1, "one that waits keeps the pool"
        first.cancel()
        router.world.pass_time(FORGET_S + 1)
        assert router.load(KEY) is None
        assert router._missing == {}, "the timer was of the pool that has gone"
        second = router.call()
        assert list(router._missing) == [KEY]
        await router.close()
        assert first.ends == second.ends == 1

    asyncio.run(use())


def test_a_router_that_closes_looks_no_more() -> None:
    async def use() -> None:
        router = VirtualRouter()
        router.publish(KEY)
        router.open(KEY)
        router.publish()
        await router.close()
        assert all(timer.cancelled for timer in router.world.timers)

    asyncio.run(use())
