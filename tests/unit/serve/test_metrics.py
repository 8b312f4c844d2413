"""`serve.metrics`: tags and checks as in Ray Serve, series that are bounded, and metrics that travel."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from eagleray import serve
from eagleray.base.ids import DeploymentID, ReplicaID
from eagleray.base.metrics import OVERFLOW, Registry, Snapshot
from eagleray.serve import context
from eagleray.serve.context import ReplicaContext, RequestContext, _serve_request_context
from eagleray.serve.metrics import Counter, Gauge, Histogram, record_metric

R = ("D", "r1", "app")


@pytest.fixture
def registry() -> Iterator[Registry]:
    """That of a driver."""
    registry = Registry()
    context.install(SimpleNamespace(registry=registry), None)  # type: ignore[arg-type]
    yield registry
    context.install(None, None)


@pytest.fixture
def in_replica(registry: Registry) -> Registry:
    context.process.replica = ReplicaContext(ReplicaID("r1", DeploymentID("D", "app")))
    return registry


def found(registry: Registry) -> dict[str, dict[tuple[str, ...], Any]]:
    return {
        one.name: {
            sample.labels: sample.value if sample.counts is None else (sample.counts, sample.value)
            for sample in one.samples
        }
        for one in registry.collect(everything=True)
    }


def test_each_kind_counts_by_its_tags(registry: Registry) -> None:
    counter = Counter("seen", "Seen.", tag_keys=("kind",))
    counter.inc(tags={"kind": "a"})
    counter.inc(2, {"kind": "a"})
    counter.inc(tags={"kind": "b"})
    gauge = Gauge("level")
    gauge.set(3)
    gauge.set(None)
    histogram = Histogram("took", boundaries=[10, 1])
    for value in (0.5, 5, 50):
        histogram.observe(value)
    assert found(registry) == {
        "seen": {("a",): 3.0, ("b",): 1.0},
        "level": {(): 3.0},
        "took": {(): ([1, 1, 1], 55.5)},
    }


def test_a_replica_adds_what_it_is(in_replica: Registry) -> None:
    counter = serve.metrics.Counter("seen", tag_keys=("kind",))
    counter.inc(tags={"kind": "a"})
    (metric,) = in_replica
    assert metric.label_names == ("deployment", "replica", "application", "kind")
    assert found(in_replica) == {"seen": {(*R, "a"): 1.0}}
    assert counter.info == {
        "name": "seen",
        "description": "",
        "tag_keys": ("deployment", "replica", "application", "kind"),
        "default_tags": {},
    }
    with pytest.raises(ValueError, match="'replica' tag is reserved"):
        Counter("other", tag_keys=("replica",))


def test_a_metric_made_outside_counts_in_the_replica_that_it_comes_to(registry: Registry) -> None:
    outside = Counter("seen", tag_keys=("kind",))
    reserved = Counter("mine", tag_keys=("deployment",))
    outside.inc(tags={"kind": "a"})
    inside, clash = pickle.loads(pickle.dumps((outside, reserved)))
    there = Registry()
    replica = ReplicaContext(ReplicaID("r1", DeploymentID("D", "app")))
    context.install(SimpleNamespace(registry=there), replica)  # type: ignore[arg-type]
    inside.inc(tags={"kind": "a"})
    assert found(there) == {"seen": {(*R, "a"): 1.0}}
    assert found(registry) == {"seen": {("a",): 1.0}}
    with pytest.raises(ValueError, match="reserved"):
        clash.inc(tags={"deployment": "x"})


def test_default_tags_stand_in_for_those_that_are_left_out(registry: Registry) -> None:
    counter = Counter("seen", tag_keys=("kind", "size"))
    assert counter.set_default_tags({"size": "small"}) is counter
    counter.inc(tags={"kind": "a"})
    counter.inc(tags={"kind": "a", "size": "large"})
    assert found(registry) == {"seen": {("a", "small"): 1.0, ("a", "large"): 1.0}}
    with pytest.raises(ValueError, match=r"Missing value for tag key\(s\): kind\."):
        counter.inc()
    with pytest.raises(ValueError, match="Unrecognized tag key colour"):
        counter.set_default_tags({"colour": "red"})
    with pytest.raises(TypeError, match="Tag values must be str"):
        counter.set_default_tags({"size": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="Tag values must be str"):
        counter.inc(tags={"kind": 3})  # type: ignore[dict-item]


def test_the_tag_route_is_that_of_the_request(in_replica: Registry) -> None:
    counter = Counter("seen", tag_keys=("route",))
    token = _serve_request_context.set(RequestContext("r", "/a", "app"))
    counter.inc()
    counter.inc(tags={"route": "/mine"})
    _serve_request_context.reset(token)
    assert found(in_replica) == {"seen": {(*R, "/a"): 1.0, (*R, "/mine"): 1.0}}


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Counter(""), ValueError),
        (lambda: Counter("a", tag_keys=["b"]), TypeError),  # type: ignore[arg-type]
        (lambda: Counter("a", tag_keys=(1,)), TypeError),  # type: ignore[arg-type]
        (lambda: Histogram("a"), ValueError),
        (lambda: Histogram("a", boundaries=[]), ValueError),
        (lambda: Histogram("a", boundaries=[0, 1]), ValueError),
        (lambda: Counter("a").inc(0), ValueError),
        (lambda: Counter("a").inc(-1), ValueError),
        (lambda: Counter("a").inc(float("nan")), ValueError),
        (lambda: Counter("a").inc("1"), TypeError),  # type: ignore[arg-type]
        (lambda: Gauge("a").set("1"), TypeError),  # type: ignore[arg-type]
        (lambda: Histogram("a", boundaries=[1]).observe(None), TypeError),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_refused(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_a_bad_name_costs_the_metric_only(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    counter = Counter("no-such name")
    assert "Invalid metric name: no-such name" in caplog.text
    counter.inc()
    assert found(registry) == {}


def test_a_name_that_is_taken_costs_the_second_metric_only(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    Counter("seen").inc()
    other = Gauge("seen", tag_keys=("kind",))
    other.set(1, {"kind": "a"})
    other.set(2, {"kind": "a"})
    assert found(registry) == {"seen": {(): 1.0}}
    assert caplog.text.count("Metric seen is discarded") == 1


def test_tag_keys_become_labels(registry: Registry) -> None:
    Counter("seen", tag_keys=("my-tag", "1st")).inc(tags={"my-tag": "a", "1st": "b"})
    (metric,) = registry
    assert metric.label_names == ("my_tag", "key_1st")


def test_exploding_tags_are_folded_and_counted(in_replica: Registry) -> None:
    counter = Counter("seen", tag_keys=("user",))
    for number in range(700):
        counter.inc(tags={"user": str(number)})
    series = found(in_replica)["seen"]
    assert len(series) == 501 and series[(*R, OVERFLOW)] == 200.0
    metric = in_replica.get("seen")
    assert metric is not None and metric.folded == 200
    assert found(in_replica)["eagleray_metrics_folded"] == {("seen",): 200.0}


def test_threads_lose_nothing(registry: Registry) -> None:
    counter, histogram = Counter("seen"), Histogram("took", boundaries=[1])

    def count() -> None:
        for _ in range(2000):
            counter.inc()
            histogram.observe(2)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found(registry) == {"seen": {(): 8000.0}, "took": {(): ([0, 8000], 16000.0)}}


def test_without_an_instance_nothing_is_counted_and_nothing_fails() -> None:
    context.install(None, None)
    counter = Counter("seen", tag_keys=("kind",))
    counter.inc(tags={"kind": "a"})
    with pytest.raises(ValueError, match="Missing value"):
        counter.inc()


def test_a_number_may_be_recorded_by_name(registry: Registry) -> None:
    with pytest.warns(DeprecationWarning, match=r"Histogram\('embedding_seconds'"):
        record_metric("embedding_seconds", 0.3)
    record_metric("embedding_seconds", 0.2)
    counts, total = found(registry)["embedding_seconds"][()]
    assert sum(counts) == 2 and total == pytest.approx(0.5)


class Text(str):
    """As numpy's texts: no plain str."""


class Number(float):
    """As numpy's numbers."""


def test_whatever_is_a_text_or_a_number_can_be_told(registry: Registry) -> None:
    Counter(Text("seen"), Text("Seen."), tag_keys=(Text("kind"),)).inc(Number(2), {"kind": Text("a")})
    Counter("names", None, tag_keys=("name",)).inc(tags={"name": "\ud800"})  # type: ignore[arg-type]
    Gauge("level").set(Number(3))
    Histogram("took", boundaries=[Number(1), float("inf")]).observe(Number(5))
    Histogram("took", boundaries=[1]).observe(float("nan"))
    data = msgspec.msgpack.encode(registry.collect(everything=True))
    shown = {one.name: one for one in msgspec.msgpack.decode(data, type=list[Snapshot])}
    assert shown["seen"].samples[0].value == 2.0
    assert shown["names"].samples[0].labels == ("?",)
    assert shown["took"].bounds == (1.0,)
    assert shown["took"].samples[0].counts == [0, 1]


def test_labels_of_a_metric_are_each_there_once(registry: Registry) -> None:
    keys = ("a-b", "a_b", "a.b", "le", "key_le", "__name__")
    Counter("seen", tag_keys=keys).inc(tags=dict.fromkeys(keys, "x"))
    (metric,) = registry
    assert metric.label_names == ("a_b", "a_b_", "a_b__", "key_le", "key_le_", "key___name__")


def test_long_tags_and_too_many_metrics_are_bounded(registry: Registry) -> None:
    Counter("seen", tag_keys=("a",)).inc(tags={"a": "x" * 1001})
    assert found(registry)["seen"] == {(OVERFLOW,): 1.0}
    for number in range(1100):
        Counter(f"one_{number}").inc()
    assert registry.size == 1000
