"""What a replica counts: each route for itself, peaks that pass, and a use that is told now and then."""

from __future__ import annotations

from typing import Any

from eagleray.base.metrics import Registry
from eagleray.replica.metrics import ReplicaMetrics
from eagleray.replica.slots import Slots

R = ("D", "r1", "app")


class Case:
    def __init__(self, limit: int = 2) -> None:
        self.now = 1000.0
        self.registry = Registry()
        self.slots = Slots(limit)
        self.metrics = ReplicaMetrics(self.registry, R, self.slots, lambda: self.now)

    def run(self, route: Any, seconds: float) -> int:
        begun_at, self.now = self.now, self.now + seconds
        return self.metrics.ended(route, begun_at, self.now)

    def series(self, name: str) -> dict[tuple[str, ...], Any]:
        found = {one.name: one for one in self.registry.collect(everything=True)}
        return {sample.labels: sample for sample in found[name].samples} if name in found else {}

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        return {labels: sample.value for labels, sample in self.series(name).items()}


def test_requests_and_their_time_are_counted_by_route() -> None:
    case = Case()
    assert 14_990 <= case.run("/a", 0.015) <= 15_010
    case.run("/a", 0.002)
    case.run("", 0.5)
    assert case.values("serve_deployment_request_counter") == {(*R, "/a"): 2.0, (*R, ""): 1.0}
    latency = case.series("serve_deployment_processing_latency_ms")[(*R, "/a")]
    assert (round(latency.value, 3), sum(latency.counts), latency.counts[4]) == (17.0, 2, 1)


def test_pattern_of_an_asgi_route_stands_behind_the_prefix() -> None:
    case = Case()
    case.run(("/", "/users/{id}"), 0.0)
    case.run(("/api", "/users/{id}"), 0.0)
    case.metrics.failed(("/api", "/users/{id}"), "ValueError")
    assert case.values("serve_deployment_request_counter") == {
        (*R, "/users/{id}"): 1.0,
        (*R, "/api/users/{id}"): 1.0,
    }
    assert case.values("serve_deployment_error_counter") == {(*R, "/api/users/{id}", "ValueError"): 1.0}


def test_largest_latency_is_that_of_the_last_minute() -> None:
    case, name = Case(), "serve_deployment_max_processing_latency_ms"
    case.run("/", 4.0)
    assert round(case.values(name)[(*R, "/")]) == 4000
    for _ in range(5):
        case.now += 10
        case.run("/", 1.0)
    assert round(case.values(name)[(*R, "/")]) == 4000
    case.now += 20
    assert round(case.values(name)[(*R, "/")]) == 1000
    case.now += 80
    assert case.values(name)[(*R, "/")] == 0.0


def test_use_is_the_share_of_what_the_limit_allows_and_changes_every_ten_seconds() -> None:
    case, name = Case(limit=2), "serve_replica_utilization_percent"
    assert case.values(name) == {R: 0.0}
    for _ in range(10):
        case.run("/", 1.0)
    assert case.values(name) == {R: 50.0}
    case.run("/", 5.0)
    assert case.values(name) == {R: 50.0}
    case.now += 5.0
    assert case.values(name) == {R: 37.5}
    case.now += 700.0
    case.values(name)
    case.now += 10.0
    assert case.values(name) == {R: 0.0}


def test_calls_in_the_replica_are_read_and_not_counted() -> None:
    case = Case()
    case.slots.open()
    case.slots.refusal(None)  # type: ignore[arg-type]
    assert case.values("serve_replica_processing_queries") == {R: 1.0}
    case.slots.release()
    assert case.values("serve_replica_processing_queries") == {R: 0.0}


def test_what_does_not_reach_user_code_is_counted_apart() -> None:
    case = Case()
    case.metrics.started()
    case.metrics.rejected()
    case.metrics.expired()
    case.metrics.cancelled("/a")
    assert case.values("serve_deployment_replica_starts") == {R: 1.0}
    assert case.values("eagleray_replica_rejected_requests") == {R: 1.0}
    assert case.values("eagleray_replica_expired_requests") == {R: 1.0}
    assert case.values("eagleray_replica_cancelled_requests") == {(*R, "/a"): 1.0}
    assert case.values("serve_deployment_request_counter") == {}
