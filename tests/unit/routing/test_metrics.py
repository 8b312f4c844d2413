"""What a router counts: each call once, its time by hop, and why some were not answered."""

from __future__ import annotations

import threading
from typing import Any

from tests.property.test_pool import Call, World

from eagleray.base.metrics import OVERFLOW, Registry
from eagleray.routing.metrics import HOP_MS, RouterMetrics
from eagleray.routing.pool import Pool
from eagleray.routing.table import DeploymentEntry, ReplicaEntry
from eagleray.wire.messages import REJECTED, USER, ErrorHead, ReplyHead

HANDLE = ("d", "app", "PROXY", "p1")
ROUTER = ("d", "p1", "app", "PROXY")


class Case:
    """A pool of replicas with a slot each, and what its router counts."""

    def __init__(self, *replicas: str, max_queued: int = -1) -> None:
        self.world = World()
        self.registry = Registry()
        self.pool = Pool("app#d", self.world, lambda: self.world.now)
        self.pool.metrics = RouterMetrics(self.registry, ("PROXY", "p1"), lambda: self.world.now).of(
            self.pool
        )
        self.max_queued = max_queued
        self.update(*(replicas or ("r",)))

    def update(self, *replicas: str) -> None:
        entries = tuple(ReplicaEntry(name, f"unix:/{name}", 1) for name in replicas)
        self.pool.update(DeploymentEntry("app", "d", entries, self.max_queued))

    def submit(self, route: str = "/a", **fields: Any) -> Call:
        call = Call()
        call.head.route = route
        for name, value in fields.items():
            setattr(call, name, value)
        self.pool.submit(call)
        return call

    def answer(self, call: Call, took_us: int = 0) -> None:
        self.world.links[0].open.remove(call)
        call.on_reply(ReplyHead(0, took_us=took_us), b"", True)

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        found = {one.name: one for one in self.registry.collect(everything=True)}
        return {one.labels: one.value for one in found[name].samples} if name in found else {}

    def hops(self) -> dict[str, tuple[int, float]]:
        """Hop -> number of calls, milliseconds in all."""
        (found,) = [
            one for one in self.registry.collect(everything=True) if one.name == "eagleray_request_hop_ms"
        ]
        assert found.bounds == HOP_MS
        return {
            one.labels[2]: (sum(one.counts or ()), round(one.value, 3)) for one in found.samples if one.counts
        }


def test_calls_are_counted_by_route_when_they_come() -> None:
    case = Case()
    for route in ("/a", "/a", ""):
        case.submit(route)
    assert case.values("serve_handle_request_counter") == {
        ("PROXY", "d", "/a", "app"): 2.0,
        ("PROXY", "d", "", "app"): 1.0,
    }
    assert case.values("serve_num_router_requests") == {
        ("d", "/a", "app", "PROXY", "p1"): 2.0,
        ("d", "", "app", "PROXY", "p1"): 1.0,
    }


def test_gauges_say_what_waits_and_what_runs() -> None:
    case = Case()
    calls = [case.submit() for _ in range(3)]
    assert case.values("serve_deployment_queued_queries") == {HANDLE: 2.0}
    assert case.values("serve_num_scheduling_tasks") == {("app", "d", "p1", "app", "PROXY"): 2.0}
    assert case.values("serve_num_ongoing_requests_at_replicas") == {HANDLE: 1.0}
    assert case.values("serve_request_router_queue_len") == {("d", "r", "p1", "app", "PROXY"): 1.0}
    for call in calls:
        case.answer(call)
    assert case.values("serve_deployment_queued_queries") == {HANDLE: 0.0}
    assert case.values("serve_num_ongoing_requests_at_replicas") == {HANDLE: 0.0}


def test_time_of_a_call_is_told_by_hop() -> None:
    case = Case()
    first = case.submit(came_at=case.world.now - 0.002)
    second = case.submit(came_at=case.world.now - 0.003)
    case.world.now += 0.010
    case.answer(first, took_us=7000)
    case.world.now += 0.004
    case.answer(second, took_us=1000)
    assert case.hops() == {"queue": (2, 10.0), "route": (2, 5.0), "execute": (2, 8.0), "network": (2, 6.0)}
    fulfillment = case.values("serve_request_router_fulfillment_time_ms")
    assert {labels: round(value, 3) for labels, value in fulfillment.items()} == {ROUTER: 10.0}


def test_handle_calls_have_no_way_through_a_proxy() -> None:
    case = Case()
    case.answer(case.submit(), took_us=10)
    assert case.hops()["route"] == (0, 0.0) and case.hops()["queue"] == (1, 0.0)


def test_a_call_that_a_replica_refuses_is_still_one_call() -> None:
    case = Case()
    call = case.submit()
    case.world.links[0].open.remove(call)
    call.on_error(ErrorHead(REJECTED, "", 1), b"")
    case.pool.targets[0].on_room(case.world.links[0])  # type: ignore[arg-type]
    case.answer(call)
    assert case.values("serve_num_router_requests") == {("d", "/a", "app", "PROXY", "p1"): 1.0}
    assert case.values("eagleray_shed_requests") == {} == case.values("eagleray_lost_requests")


def test_calls_without_an_answer_say_why() -> None:
    case = Case(max_queued=1)
    running, waiting, _ = (case.submit() for _ in range(3))
    assert case.values("eagleray_shed_requests") == {("d", "app", "backpressure"): 1.0}
    waiting.cancel()
    assert case.values("eagleray_cancelled_requests") == {("d", "app", "cancelled"): 1.0}
    case.world.links[0].open.remove(running)
    running.on_error(ErrorHead("replica_died"), b"")
    assert case.values("eagleray_lost_requests") == {("d", "app", "replica_died"): 1.0}
    late = case.submit()
    case.world.links[0].open.remove(late)
    late.on_error(ErrorHead(USER, "ValueError"), b"")
    assert case.values("eagleray_lost_requests") == {("d", "app", "replica_died"): 1.0}


def test_a_replica_that_has_left_has_no_queue_and_then_no_series() -> None:
    case, name = Case("a", "b"), "serve_request_router_queue_len"
    case.submit()
    assert len(case.values(name)) == 2
    case.update("b")
    assert case.values(name)["d", "a", "p1", "app", "PROXY"] == 0.0
    case.world.now += 60
    case.update("c")
    assert sorted(labels[1] for labels in case.values(name)) == ["b", "c"]


def test_routes_without_end_are_counted_together() -> None:
    case = Case()
    assert case.pool.metrics is not None
    for number in range(130):
        case.pool.metrics.open(f"/{number}").count += 1
    found = case.values("serve_num_router_requests")
    assert (
        sum(found.values()) == 130 and sum(value for labels, value in found.items() if OVERFLOW in labels) > 1
    )


def test_calls_of_threads_are_all_counted() -> None:
    case = Case()
    metrics = case.pool.metrics
    assert metrics is not None

    def count() -> None:
        for _ in range(2000):
            metrics.entered_alone("")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(500):
        metrics.open("").count += 1
    for thread in threads:
        thread.join()
    assert case.values("serve_num_router_requests") == {("d", "", "app", "PROXY", "p1"): 8500.0}


def test_all_calls_are_counted_but_only_so_many_are_measured() -> None:
    case = Case()
    for _ in range(10_000):
        case.world.now += 0.0001
        case.answer(case.submit())
    assert case.values("serve_num_router_requests") == {("d", "/a", "app", "PROXY", "p1"): 10_000.0}
    assert 40 < case.hops()["queue"][0] < 250
    (waits,) = [one for one in case.registry.collect(everything=True) if "fulfillment" in one.name]
    assert [sum(one.counts or ()) for one in waits.samples] == [10_000]
    before = case.hops()["queue"][0]
    for _ in range(1000):
        case.world.now += 0.1
        case.answer(case.submit())
    assert case.hops()["queue"][0] > before + 700
