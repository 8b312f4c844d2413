"""From what processes tell to points: differences, shares of a second, restarts, and what a day of a hundred takes."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import Callable
from typing import Any, cast

import pytest

from eagleray.admin.records import HistoryQuery, history_query
from eagleray.base.errors import ConfigError, PreconditionError
from eagleray.base.metrics import GAUGE, HISTOGRAM, LATENCY_MS, Registry, Sample, Snapshot
from eagleray.controller import history as module
from eagleray.controller.chronicle import Chronicle
from eagleray.controller.history import History
from eagleray.controller.points import ONGOING, QUEUED, REPLICAS, Points
from eagleray.controller.recall import Recall
from eagleray.controller.telemetry import Telemetry
from eagleray.reconcile.applications import ApplicationRow
from eagleray.reconcile.events import Happened, Planned
from eagleray.reconcile.instance import InstanceRow, InstanceState, Trigger
from eagleray.reconcile.world import Deployment, DeploymentRow, World

WALL_S = 1_700_000_000.0


class Timer:
    """The only one that a history has."""

    def __init__(self, time: Time) -> None:
        self._time = time

    def cancel(self) -> None:
        self._time.due = None


class Time:
    """A clock, a wall clock and a loop's timer, moved by hand."""

    def __init__(self) -> None:
        self.at = 5000.0
        self.wall_off_s = 0.0
        self.due: tuple[float, Callable[[], None]] | None = None

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return WALL_S + self.at - 5000.0 + self.wall_off_s

    def after(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        assert self.due is None, "one timer is enough"
        self.due = self.at + delay_s, call
        return cast(asyncio.TimerHandle, Timer(self))

    def pass_(self, seconds: float) -> None:
        end = self.at + seconds
        while self.due is not None and self.due[0] <= end:
            (self.at, call), self.due = self.due, None
            call()
        self.at = end


class Instance:
    """An instance with one application, and what its processes count."""

    def __init__(self) -> None:
        self.time = Time()
        self.world = World("seed")
        self.telemetry = Telemetry()
        self.history = History(self.telemetry, self.world, self.time, self.time.wall, self.time.after)
        self.recall = Recall(self.history, Chronicle(self.time.wall), dict)
        self.add("app", "D")

    def add(self, app: str, deployment: str) -> None:
        self.world.applications[app] = ApplicationRow(app, generation=1)
        key = f"{app}#{deployment}"
        self.world.deployments[key] = Deployment(DeploymentRow(key), None)

    def remove(self, app: str, deployment: str) -> None:
        del self.world.applications[app], self.world.deployments[f"{app}#{deployment}"]

    def read(self, **query: Any) -> dict[str, Any]:
        return asyncio.run(self.recall.history(HistoryQuery(**query)))

    def column(self, name: str, deployment: str = "D", **query: Any) -> list[Any]:
        (found,) = self.read(application="app", deployment=deployment, **query)["series"]
        return list(found[name])


class Replica:
    """A process of the deployment D; `is_own`: this controller has started it."""

    def __init__(self, instance: Instance, ref: str, *, is_own: bool = True) -> None:
        self.instance, self.ref = instance, ref
        row = InstanceRow(ref, "app#D", ref, "v1", state=InstanceState.RUNNING)
        instance.world.apply(Planned(row), 0.0)
        instance.world.instances[ref].is_adopted = not is_own
        registry = self.registry = Registry()
        names, labels = ("deployment", "replica", "application"), ("D", ref, "app")
        self.latency = registry.histogram(
            "serve_deployment_processing_latency_ms", "Time.", *names
        ).distribution(*labels)
        self.errors = registry.counter("serve_deployment_error_counter", "Errors.", *names).value(*labels)
        self.ongoing = registry.gauge("serve_replica_processing_queries", "Now.", *names).value(*labels)
        instance.telemetry.begin(ref, ("app", "D"))

    def answer(self, requests: int, ms: float = 4.0) -> None:
        for _ in range(requests):
            self.latency.observe(ms)

    def tell(self, *, everything: bool = False) -> None:
        self.instance.telemetry.tell(self.ref, self.registry.collect(everything=everything))


@pytest.fixture
def instance() -> Instance:
    return Instance()


def test_requests_of_a_second_become_rates_and_latencies(instance: Instance) -> None:
    replica = Replica(instance, "r1")
    instance.time.pass_(0.9)
    replica.answer(3)
    replica.errors.inc()
    replica.ongoing.set(2)
    replica.tell()
    instance.time.pass_(2.2)
    found = instance.read(application="app", deployment="D", from_s=-2)
    assert (found["from"], found["to"], found["step_s"]) == (WALL_S, WALL_S + 2, 1)
    (series,) = found["series"]
    assert series == {
        "application": "app",
        "deployment": "D",
        "requests_per_s": [3, 0],
        "errors_per_s": [1, 0],
        "p50_ms": [pytest.approx(3.5, rel=0.001), None],
        "p95_ms": [pytest.approx(4.85, rel=0.001), None],
        "p99_ms": [pytest.approx(4.97, rel=0.001), None],
        "ongoing": [2, 2],
        "queued": [0, 0],
        "replicas": [0, 0],
    }


def test_a_steady_rate_is_steady_at_whatever_moment_it_is_told(instance: Instance) -> None:
    replicas = [Replica(instance, f"r{index}") for index in range(3)]
    generator = random.Random(3)
    for _ in range(40):
        for replica in replicas:
            instance.time.pass_(1 / 3 + generator.uniform(-0.004, 0.004))
            replica.answer(100)
            replica.tell()
    rates = instance.column("requests_per_s", from_s=-30)
    assert all(rate == pytest.approx(300, rel=0.05) for rate in rates)


def test_a_replica_that_ends_takes_its_gauges_and_leaves_the_past(instance: Instance) -> None:
    first, second = Replica(instance, "r1"), Replica(instance, "r2")
    for replica in (first, second):
        replica.answer(10)
        replica.ongoing.set(4)
        replica.tell()
    instance.time.pass_(5)
    instance.telemetry.ended("r1")
    instance.time.pass_(5)
    assert instance.column("ongoing", from_s=-8)[-1] == 4
    assert max(instance.column("ongoing", from_s=-8)) == 8
    assert instance.history.series["app", "D"].gauges[ONGOING] == 4


def test_what_was_counted_before_the_controller_is_not_traffic_of_now(instance: Instance) -> None:
    adopted = Replica(instance, "r1", is_own=False)
    adopted.answer(1000)
    adopted.ongoing.set(3)
    adopted.tell(everything=True)
    instance.time.pass_(1)
    adopted.answer(2)
    adopted.tell()
    instance.time.pass_(4)
    assert sum(one or 0 for one in instance.column("requests_per_s")) == 2
    assert instance.history.series["app", "D"].gauges[ONGOING] == 3


def test_a_connection_that_comes_back_tells_nothing_twice(instance: Instance) -> None:
    replica = Replica(instance, "r1")
    replica.answer(20)
    replica.tell()
    instance.time.pass_(3)
    instance.telemetry.begin("r1", ("app", "D"))
    replica.tell(everything=True)
    instance.telemetry.ended("r1")
    instance.telemetry.begin("r1", ("app", "D"))
    replica.tell(everything=True)
    instance.time.pass_(3)
    assert sum(one or 0 for one in instance.column("requests_per_s")) == 20


def test_an_application_is_what_proxies_have_answered(instance: Instance) -> None:
    registry = Registry()
    latency = registry.histogram("serve_http_request_latency_ms", "Time.", "application", "route")
    errors = registry.counter("serve_num_http_error_requests", "Errors.", "application")
    latency.distribution("app", "/").observe(30)
    latency.distribution("", "").observe(1)  # no such route
    errors.value("app").inc()
    instance.world.apply(Planned(InstanceRow("proxy1", "#proxy", "p", "v1", kind="proxy")), 0.0)
    instance.telemetry.begin("proxy1", ("proxy", ""))
    instance.telemetry.tell("proxy1", registry.collect())
    instance.time.pass_(3)
    (series,) = instance.read(application="app")["series"]
    assert series["deployment"] is None and "ongoing" not in series
    assert sum(one or 0 for one in series["requests_per_s"]) == 1
    assert sum(one or 0 for one in series["errors_per_s"]) == 1
    assert set(instance.history.series) == {("app", "")}


def test_waiting_and_refused_requests_are_told_by_whoever_routes(instance: Instance) -> None:
    registry = Registry()
    queued = registry.gauge("serve_deployment_queued_queries", "Wait.", "deployment", "application")
    shed = registry.counter("eagleray_shed_requests", "Shed.", "deployment", "application", "reason")
    queued.value("D", "app").set(9)
    instance.telemetry.begin("driver", ("driver", ""))
    instance.telemetry.tell("driver", registry.collect())
    instance.time.pass_(1)
    shed.value("D", "app", "full").inc(4)
    instance.telemetry.tell("driver", registry.collect())
    instance.time.pass_(3)
    assert instance.history.series["app", "D"].gauges[QUEUED] == 9
    assert sum(one or 0 for one in instance.column("errors_per_s")) == 4


def test_replicas_are_counted_when_something_happens_to_one(instance: Instance) -> None:
    Replica(instance, "r1")
    Replica(instance, "r2")
    event = Happened("r2", Trigger.LOST)
    instance.history.on_event(event)
    instance.time.pass_(3)
    assert instance.history.series["app", "D"].gauges[REPLICAS] == 2
    instance.history.on_event(event)
    instance.world.apply(event, 0.0)
    instance.time.pass_(3)
    assert instance.history.series["app", "D"].gauges[REPLICAS] == 1


def test_an_idle_instance_has_no_timer(instance: Instance) -> None:
    replica = Replica(instance, "r1")
    replica.answer(1)
    replica.tell()
    assert instance.time.due is not None
    instance.time.pass_(5)
    assert instance.time.due is None
    instance.time.pass_(1000)
    assert instance.column("requests_per_s", from_s=-600, step_s=1) == [0.0] * 600


def test_foreign_series_of_the_same_name_do_no_harm(instance: Instance) -> None:
    Replica(instance, "r1")
    odd = Snapshot(
        "serve_http_request_latency_ms", HISTOGRAM, "", ("x",), (1.0,), [Sample(("y",), 1.0, [1, 0])]
    )
    flat = Snapshot(
        "serve_http_request_latency_ms", "gauge", "", ("application",), (), [Sample(("app",), 1.0)]
    )
    instance.telemetry.tell("r1", [odd])
    instance.telemetry.tell("r1", [flat])
    assert instance.history.series.keys() <= {("app", ""), ("app", "D")}


def test_deleted_deployments_make_room(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 14)

    def traffic(app: str) -> None:
        registry = Registry()
        registry.histogram("serve_http_request_latency_ms", "", "application").distribution(app).observe(1)
        instance.world.apply(Planned(InstanceRow(f"p{app}", "#proxy", app, "v1", kind="proxy")), 0.0)
        instance.telemetry.begin(f"p{app}", ("proxy", ""))
        instance.telemetry.tell(f"p{app}", registry.collect())
        instance.time.pass_(3)

    for index in range(30):
        instance.add(f"a{index}", "D")
        traffic(f"a{index}")
        instance.remove(f"a{index}", "D")
    assert len(instance.history.series) == module.MOST_GONE + 1
    for index in range(20):
        instance.add(f"b{index}", "D")
        traffic(f"b{index}")
    assert len(instance.history.series) == 14


def test_coarse_steps_keep_what_was_bad(instance: Instance) -> None:
    replica = Replica(instance, "r1")
    for second in range(120):
        replica.answer(10, 900.0 if second == 40 else 4.0)
        replica.ongoing.set(30 if second == 40 else 1)
        replica.tell()
        instance.time.pass_(1)
    instance.time.pass_(3)
    fine = instance.read(application="app", deployment="D", from_s=WALL_S, to_s=WALL_S + 120, step_s=1)
    coarse = instance.read(application="app", deployment="D", from_s=WALL_S, to_s=WALL_S + 120, step_s=100)
    (one,), (other,) = fine["series"], coarse["series"]
    assert len(one["p99_ms"]) == 120 and coarse["step_s"] == 100 and len(other["p99_ms"]) == 1
    assert other["ongoing"] == [30] and other["p99_ms"][0] > 500 > other["p50_ms"][0]
    assert other["requests_per_s"][0] == pytest.approx(10, rel=0.02)


def test_a_clock_that_is_set_moves_the_points(instance: Instance) -> None:
    replica = Replica(instance, "r1")
    instance.time.pass_(0.9)
    replica.answer(3)
    replica.tell()
    instance.time.pass_(10)
    instance.time.wall_off_s = 86_400.0
    found = instance.read(from_s=-12)
    assert found["to"] == pytest.approx(found["now"], abs=12)
    absolute = instance.read(from_s=found["from"], to_s=found["to"], step_s=1)
    assert (
        absolute["series"] == found["series"]
        and sum(one or 0 for one in absolute["series"][0]["requests_per_s"]) == 3
    )


def test_too_much_at_once_is_refused_with_what_would_do(instance: Instance) -> None:
    for index in range(100):
        instance.history.series["app", f"D{index}"] = Points(int(WALL_S), has_gauges=True)
    with pytest.raises(ConfigError, match=r"\?step=30 or more"):
        instance.recall.size(HistoryQuery(from_s=-3600, step_s=1))
    with pytest.raises(ConfigError, match=r"\?application="):
        instance.recall.size(HistoryQuery(from_s=-86_400))
    found = instance.read(from_s=-1800)
    assert found["step_s"] == 20 and len(found["series"]) == 100
    assert instance.read(from_s=5, to_s=10)["series"][0]["ongoing"] == []


def test_without_metrics_there_is_no_history() -> None:
    with pytest.raises(PreconditionError, match="EAGLERAY_METRICS"):
        asyncio.run(Recall(None, Chronicle(lambda: 1.0), dict).history(HistoryQuery()))


@pytest.mark.parametrize(
    "query", ["step=0", "step=1.5", "step=x", "from=inf", "from=nan", "to=yesterday", "deployment=D", "x=1"]
)
def test_questions_that_make_no_sense_are_refused(query: str) -> None:
    with pytest.raises(ConfigError, match=r"\?\w+="):
        history_query(query)


def test_an_hour_and_a_day_of_a_hundred_deployments_take_less_than_forty_megabytes() -> None:
    """Applications of one deployment each, so that there are as many of them; all of it busy in every second."""
    generator = random.Random(1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        series = [Points(0, has_gauges=index < 100) for index in range(200)]
        for points in series:
            for slot in range(3):
                points.count(slot, requests=generator.randrange(5000))
                points.observe(
                    slot, LATENCY_MS, [generator.randrange(99) for _ in range(len(LATENCY_MS) + 1)]
                )
            points.catch_up(3 * 86_400)
            for slot in range(3 * 86_400, 3 * 86_400 + 5):
                points.count(slot, requests=generator.randrange(5000))
                points.advance(slot)
            assert points.hour.next - points.hour.oldest == 3600
            assert points.day.next - points.day.oldest == 8640
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before <= 40_000_000, f"{(after - before) / 1e6:.1f} MB"


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e300])
def test_no_number_of_user_code_ends_the_telling(odd: float, instance: Instance) -> None:
    names = ("deployment", "application")
    instance.telemetry.begin("replica-1", ("app", "D"))
    for name in ("serve_num_http_error_requests", "serve_deployment_queued_queries"):
        for value in (odd, 3.0, 5.0):
            told = Snapshot(name, GAUGE, "", names, (), [Sample(("D", "app"), value)])
            instance.telemetry.tell("replica-1", [told])
    instance.time.pass_(3.0)
    assert sum(one or 0.0 for one in instance.column("errors_per_s", from_s=-4.0)) == 2.0
