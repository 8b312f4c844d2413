"""What stays of processes that have ended, and how series of several processes become one."""

from __future__ import annotations

import pytest

from eagleray.base.metrics import FOLDED, OVERFLOW, Registry, Snapshot
from eagleray.controller import telemetry as module
from eagleray.controller.telemetry import RETAINED, Telemetry
from eagleray.controller.totals import rebucket

APP = ("app", "D")


class Process:
    """A replica that counts and tells."""

    def __init__(self, telemetry: Telemetry, name: str, group: tuple[str, str] = APP) -> None:
        self.telemetry, self.name = telemetry, name
        self.registry = Registry()
        labels = ("deployment", "replica", "application")
        self.calls = self.registry.counter("calls", "Calls.", *labels).value("D", name, "app")
        self.routed = self.registry.counter("routed", "Routed.", "application").value("app")
        self.busy = self.registry.gauge("busy", "Busy.", *labels).value("D", name, "app")
        self.latency = self.registry.histogram("ms", "Latency.", *labels, bounds=(1, 10)).distribution(
            "D", name, "app"
        )
        telemetry.begin(name, group)

    def tell(self, *, everything: bool = False) -> None:
        self.telemetry.tell(self.name, self.registry.collect(everything=everything))


def replicas(telemetry: Telemetry, name: str) -> dict[str, float]:
    return {key[0]: value for key, value in telemetry.sum(name, ("replica",)).items()}


def exported(telemetry: Telemetry, name: str) -> dict[tuple[str, ...], float]:
    (found,) = [one for one in telemetry.snapshots() if one.name == name]
    return {sample.labels: sample.value for sample in found.samples}


def test_counters_outlive_their_process_and_gauges_do_not() -> None:
    telemetry = Telemetry()
    for name in ("r1", "r2"):
        process = Process(telemetry, name)
        process.calls.inc(3)
        process.routed.inc(2)
        process.busy.set(1)
        process.latency.observe(5)
        process.tell()
    telemetry.ended("r1")
    telemetry.ended("r1")
    telemetry.tell("r1", process.registry.collect(everything=True))
    assert replicas(telemetry, "calls") == {"r1": 3.0, "r2": 3.0}
    assert telemetry.sum("routed") == {(): 4.0}
    assert replicas(telemetry, "busy") == {"r2": 1.0}
    assert exported(telemetry, "routed") == {("app",): 4.0}
    total = telemetry.histogram("ms", ("application",), {"deployment": "D"})[("app",)]
    assert (total.counts, total.sum, total.count) == ([0, 2, 0], 10.0, 2)
    assert telemetry.sum("calls", where={"deployment": "Other"}) == telemetry.sum("unknown") == {}


def test_old_processes_become_one_series_with_a_new_name_each_time() -> None:
    telemetry = Telemetry()
    for number in range(RETAINED + 2):
        process = Process(telemetry, f"r{number}")
        process.calls.inc()
        process.latency.observe(0.5)
        process.tell()
        telemetry.ended(process.name)
    names = {labels[1]: value for labels, value in exported(telemetry, "calls").items()}
    assert names == {f"r{number}": 1.0 for number in range(2, RETAINED + 2)} | {"retired-2": 2.0}
    assert telemetry.sum("calls") == {(): RETAINED + 2}
    assert telemetry.histogram("ms")[()].count == RETAINED + 2


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_gauge_that_its_process_forgets_is_gone(is_whole: bool) -> None:
    telemetry = Telemetry()
    registry = Registry()
    depth = registry.gauge("depth", "Depth.", "queue")
    calls = registry.counter("calls", "Calls.", "queue")
    for metric in (depth, calls):
        for queue in "abc":
            metric.value(queue).inc()
    telemetry.begin("p", ("p", ""))
    telemetry.tell("p", registry.collect())
    for metric in (depth, calls):
        metric.forget("a")
        metric.forget("b")
    depth.value("b").set(7)
    if is_whole:
        registry.collect()  # lost with its connection
    telemetry.tell("p", registry.collect(everything=is_whole), is_whole=is_whole)
    assert telemetry.sum("depth", ("queue",)) == {("b",): 7.0, ("c",): 1.0}
    assert telemetry.sum("calls") == {(): 3.0}


@pytest.mark.parametrize("is_heard", [True, False])
def test_counters_that_a_living_process_forgets_stay_in_the_sum(is_heard: bool) -> None:
    telemetry = Telemetry()
    registry = Registry()
    calls = registry.counter("calls", "Calls.", "deployment", "actor_id")
    times = registry.histogram("ms", "Times.", "deployment", bounds=(1, 10))
    telemetry.begin("p", ("proxy", ""))

    def tell() -> None:
        telemetry.tell("p", registry.collect(everything=not is_heard), is_whole=not is_heard)

    for count in (5, 3):
        calls.value("d", "p").inc(count)
        times.distribution("d").observe(count)
        tell()
        before = exported(telemetry, "calls")
        calls.forget("d", "p")
        times.forget("d")
        if not is_heard:
            registry.collect()  # lost with its connection
            if count == 3:  # it is back before anybody hears that it had gone
                calls.value("d", "p").inc(1)
        tell()
    assert telemetry.sum("calls") == {(): 8.0 if is_heard else 9.0}
    assert exported(telemetry, "calls") != before
    assert telemetry.histogram("ms", ("deployment",))[("d",)].counts == [0, 2, 0]
    following = Telemetry()
    following.load(telemetry.dump())
    assert following.sum("calls") == {(): 8.0}


def test_forgotten_counters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FORGOTTEN", 10)
    telemetry = Telemetry()
    registry = Registry()
    calls = registry.counter("calls", "Calls.", "deployment")
    telemetry.begin("p", ("proxy", ""))
    for number in range(50):
        calls.value(str(number)).inc()
        telemetry.tell("p", registry.collect())
        calls.forget(str(number))
        telemetry.tell("p", registry.collect())
    by_deployment = telemetry.sum("calls", ("deployment",))
    assert len(by_deployment) == 11 and by_deployment[(OVERFLOW,)] == 40.0


def test_a_source_that_comes_back_goes_on() -> None:
    telemetry = Telemetry()
    process = Process(telemetry, "driver", ("driver", ""))
    process.calls.inc(5)
    process.tell()
    telemetry.ended("driver")
    telemetry.begin("driver", ("driver", ""))
    process.tell(everything=True)
    assert telemetry.sum("calls") == {(): 5.0}


def test_what_has_ended_survives_a_controller() -> None:
    telemetry = Telemetry()
    for number in range(RETAINED + 2):
        process = Process(telemetry, f"r{number}")
        process.calls.inc()
        process.latency.observe(5)
        process.tell()
        telemetry.ended(process.name)
    following = Telemetry()
    following.load(telemetry.dump())
    assert exported(following, "calls") == exported(telemetry, "calls")
    assert following.histogram("ms") == telemetry.histogram("ms")
    following.begin(process.name, APP)
    process.tell(everything=True)
    assert following.sum("calls") == telemetry.sum("calls")


def test_groups_and_label_sets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GROUPS", 3)
    telemetry = Telemetry()
    for number in range(10):
        registry = Registry()
        metric = registry.counter("calls", "Calls.", "user")
        for user in range(200):
            metric.value(f"{number}-{user}").inc()
        telemetry.begin(f"r{number}", (f"app{number}", "D"))
        telemetry.tell(f"r{number}", registry.collect())
        telemetry.ended(f"r{number}")
    by_user = telemetry.sum("calls", ("user",))
    assert sum(by_user.values()) == 2000.0
    assert len(by_user) < 2000
    folded = telemetry.sum(FOLDED, ("metric",))
    assert folded[("calls",)] == by_user[(OVERFLOW,)] == 7 * 200 - 1000


def test_a_name_with_two_kinds_is_shown_as_the_first() -> None:
    telemetry = Telemetry()
    for name, kind in (("a", "counter"), ("b", "gauge")):
        telemetry.begin(name, (name, ""))
        registry = Registry()
        getattr(registry, kind)("mine", "Mine.").value().inc()
        telemetry.tell(name, registry.collect())
    assert [one.kind for one in telemetry.snapshots() if one.name == "mine"] == ["counter"]
    assert telemetry.sum("eagleray_metrics_refused") == {(): 1.0}


def test_the_controller_is_a_process_too() -> None:
    telemetry = Telemetry()
    telemetry.registry.counter("passes", "Passes.").value().inc(2)
    telemetry.extras.append(lambda: [Snapshot("now", "gauge", "Now.", ())])
    assert telemetry.sum("passes") == {(): 2.0}
    assert {"passes", "now"} <= {one.name for one in telemetry.snapshots()}


def test_counts_move_to_the_buckets_that_hold_them() -> None:
    assert rebucket([1, 2, 3, 4], (1, 5, 10), (5, 10)) == [3, 3, 4]
    assert rebucket([1, 2, 3], (5, 20), (10, 15)) == [1, 0, 5]
