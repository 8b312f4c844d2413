"""How things are right now: from the world, from what processes tell, and between two looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from eagleray.base.metrics import Registry
from eagleray.controller.chronicle import Chronicle, Kind
from eagleray.controller.history import History
from eagleray.controller.overview import EVENTS, FRESH_S, WINDOW_S, Overview
from eagleray.controller.telemetry import Telemetry
from eagleray.reconcile.applications import ApplicationRow
from eagleray.reconcile.events import Planned
from eagleray.reconcile.instance import InstanceRow, InstanceState
from eagleray.reconcile.target import RunningConfig
from eagleray.reconcile.world import Deployment, DeploymentRow, World

LABELS = ("deployment", "replica", "application")


class Instance:
    """One application with one deployment, and a clock that is moved by hand; the history's timer never fires."""

    def __init__(self, *, counts: bool = True) -> None:
        self.at = 1000.0
        self.world = World("seed")
        self.telemetry = Telemetry()
        self.chronicle = Chronicle(self.wall)
        self.history = History(self.telemetry, self.world, self, self.wall, self.never)
        self.overview = Overview(
            self.world, self.telemetry, self.history if counts else None, self.chronicle, self, self.wall
        )
        self.world.applications["app"] = ApplicationRow("app", generation=1)
        self.world.deployments["app#D"] = Deployment(DeploymentRow("app#D"), None)

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    def never(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return cast(asyncio.TimerHandle, self)

    def look(self) -> dict[str, Any]:
        (app,) = self.overview.read()["applications"]
        (deployment,) = app["deployments"]
        found: dict[str, Any] = deployment
        return found


class Replica:
    """A process of the deployment D, and what it counts."""

    def __init__(self, instance: Instance, name: str, state: InstanceState = InstanceState.RUNNING) -> None:
        self.instance, self.name = instance, name
        row = InstanceRow(
            name, "app#D", name, "v1", state=state, config=RunningConfig(max_ongoing_requests=4)
        )
        instance.world.apply(Planned(row), 0.0)
        registry = self.registry = Registry()
        labels = ("D", name, "app")
        self.latency = registry.histogram(
            "serve_deployment_processing_latency_ms", "Time.", *LABELS, "route"
        ).distribution(*labels, "/")
        self.errors = registry.counter("serve_deployment_error_counter", "Errors.", *LABELS).value(*labels)
        self.ongoing = registry.gauge("serve_replica_processing_queries", "Now.", *LABELS).value(*labels)
        self.memory = registry.gauge("eagleray_process_resident_memory_bytes", "Bytes.", *LABELS).value(
            *labels
        )
        instance.telemetry.begin(name, ("app", "D"))

    def tell(self, requests: int = 0, ms: float = 4.0) -> None:
        for _ in range(requests):
            self.latency.observe(ms)
        self.instance.telemetry.tell(self.name, self.registry.collect())


@pytest.fixture
def instance() -> Instance:
    return Instance()


def test_saturation_is_what_runs_of_what_may_run(instance: Instance) -> None:
    busy, idle, starting = (
        Replica(instance, "r1"),
        Replica(instance, "r2"),
        Replica(instance, "r3", InstanceState.STARTING),
    )
    busy.ongoing.set(3)
    busy.memory.set(1e6)
    for one in (busy, idle, starting):
        one.tell()
    found = instance.look()
    assert (found["ongoing"], found["saturation"]) == (3.0, 3 / 8)
    assert [(one["state"], one["is_healthy"], one["saturation"]) for one in found["replicas"]] == [
        ("RUNNING", True, 0.75),
        ("RUNNING", True, 0.0),
        ("STARTING", False, None),
    ]
    assert found["replicas"][0]["memory_bytes"] == 1e6


def test_replicas_have_rates_between_two_looks(instance: Instance) -> None:
    replica = Replica(instance, "r1")
    replica.tell(1000)
    (first,) = instance.look()["replicas"]
    assert first["requests_per_s"] is None and first["p99_ms"] is None
    instance.at += 2.0
    replica.errors.inc()
    replica.tell(20, ms=40.0)
    (then,) = instance.look()["replicas"]
    assert (then["requests_per_s"], then["errors_per_s"]) == (10.0, 0.5)
    assert 20 < then["p50_ms"] < then["p99_ms"] <= 50, "not those of before"
    instance.at += WINDOW_S + 1.0
    (later,) = instance.look()["replicas"]
    assert later["requests_per_s"] is None, "nobody has looked for too long"


def test_a_replica_that_is_new_has_had_all_its_requests_since(instance: Instance) -> None:
    instance.look()
    instance.at += 1.0
    Replica(instance, "r1").tell(5)
    (found,) = instance.look()["replicas"]
    assert found["requests_per_s"] == 5.0


def test_a_deployment_has_the_rates_of_its_history(instance: Instance) -> None:
    replica = Replica(instance, "r1")
    replica.tell(1)
    assert instance.look()["requests_per_s"] == 0.0, "the second is not over"
    instance.at += 2 * WINDOW_S
    replica.tell(50)
    instance.at += WINDOW_S
    found = instance.look()
    assert found["requests_per_s"] == 50 / WINDOW_S and 2.0 < found["p50_ms"] < 5.0


def test_who_asks_at_once_again_gets_the_same_answer(instance: Instance) -> None:
    replica = Replica(instance, "r1")
    before = instance.overview.read()
    replica.ongoing.set(1)
    replica.tell()
    instance.at += FRESH_S / 2
    assert instance.overview.read() is before
    instance.at += FRESH_S
    assert instance.look()["ongoing"] == 1.0


def test_the_newest_events_are_in_it(instance: Instance) -> None:
    for number in range(EVENTS + 2):
        instance.chronicle.add(Kind.READY, f"Replica {number} serves.", key="app#D")
    told = [one["message"] for one in instance.overview.read()["events"]]
    assert told == [f"Replica {number} serves." for number in range(2, EVENTS + 2)]


def test_without_metrics_there_are_states_only() -> None:
    instance = Instance(counts=False)
    Replica(instance, "r1")
    instance.look()
    instance.at += 1.0
    found = instance.look()
    (replica,) = found["replicas"]
    assert found["requests_per_s"] is None and replica["requests_per_s"] is None
    assert replica["state"] == "RUNNING"
