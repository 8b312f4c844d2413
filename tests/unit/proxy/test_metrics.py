"""What a proxy counts: Ray Serve's names and tags, errors twice, and nothing that clients could make grow."""

from __future__ import annotations

from typing import Any

from eagleray.base.metrics import OVERFLOW, Registry
from eagleray.proxy.metrics import ProxyMetrics, node_labels


class Case:
    def __init__(self, protocol: str = "http") -> None:
        self.registry = Registry()
        self.ongoing = 0
        self.metrics = ProxyMetrics(self.registry, protocol, lambda: self.ongoing)

    def found(self) -> dict[str, dict[tuple[tuple[str, str], ...], Any]]:
        """Name -> tags -> value, or number of observations."""
        return {
            one.name: {
                tuple(zip(one.label_names, sample.labels, strict=True)): (
                    sample.value if sample.counts is None else sum(sample.counts)
                )
                for sample in one.samples
            }
            for one in self.registry.collect(everything=True)
            if one.kind != "gauge"
        }


def test_an_answer_is_counted_with_its_tags() -> None:
    case = Case()
    case.metrics.finished(("GET", "/a", "", 200, "app#D"), 0.003)
    case.metrics.finished(("GET", "/a", "", 200, "app#D"), 0.004)
    tags = (("route", "/a"), ("method", "GET"), ("application", "app"), ("status_code", "200"))
    method, route, app, code = tags[1], tags[0], tags[2], tags[3]
    assert case.found() == {
        "serve_num_http_requests": {tags: 2.0},
        "serve_http_request_latency_ms": {(method, route, app, code): 2},
    }


def test_an_error_is_counted_for_the_route_and_for_the_ingress() -> None:
    case = Case()
    case.metrics.finished(("POST", "/a", "/users/{id}", 503, "app#D"), 0.003)
    found = case.found()
    assert found["serve_num_http_error_requests"] == {
        (("route", "/a/users/{id}"), ("error_code", "503"), ("method", "POST"), ("application", "app")): 1.0
    }
    assert found["serve_num_deployment_http_error_requests"] == {
        (
            ("deployment", "D"),
            ("error_code", "503"),
            ("method", "POST"),
            ("route", "/a/users/{id}"),
            ("application", "app"),
        ): 1.0
    }


def test_an_unknown_path_has_neither_route_nor_application() -> None:
    case = Case()
    case.metrics.finished(("GET", "", "", 404, ""), 0.0)
    found = case.found()
    tags = (("route", ""), ("method", "GET"), ("application", ""), ("status_code", "404"))
    assert found["serve_num_http_requests"] == {tags: 1.0}
    assert "serve_num_deployment_http_error_requests" not in found


def test_a_websocket_that_was_closed_in_order_is_no_error() -> None:
    case = Case()
    for code in (1000, 1001, 1006, 403):
        case.metrics.finished(("WS", "/", "", code, "app#D"), 1.0)
    errors = case.found()["serve_num_http_error_requests"]
    assert sorted(dict(tags)["error_code"] for tags in errors) == ["1006", "403"]


def test_methods_that_clients_invent_are_one() -> None:
    case = Case()
    for number in range(2000):
        case.metrics.finished((f"M{number}", "/", "", 200, "app#D"), 0.0)
    tags = (("route", "/"), ("method", OVERFLOW), ("application", "app"), ("status_code", "200"))
    assert case.found()["serve_num_http_requests"] == {tags: 2000.0}
    assert len(case.metrics._known) == 0


def test_rpcs_are_counted_by_application_and_status() -> None:
    case = Case("grpc")
    case.metrics.finished(("/s.S/Say", "app", "", "StatusCode.OK", "app#D"), 0.1)
    case.metrics.finished(("/s.S/Say", "app", "", "StatusCode.INTERNAL", "app#D"), 0.1)
    found = case.found()
    assert [dict(tags) for tags in found["serve_num_grpc_requests"]] == [
        {"route": "app", "method": "/s.S/Say", "application": "app", "status_code": code}
        for code in ("StatusCode.OK", "StatusCode.INTERNAL")
    ]
    assert [dict(tags)["error_code"] for tags in found["serve_num_grpc_error_requests"]] == [
        "StatusCode.INTERNAL"
    ]


def test_requests_under_way_are_read_when_somebody_collects() -> None:
    case = Case()
    case.ongoing = 3
    (gauge,) = [one for one in case.registry.collect(everything=True) if one.kind == "gauge"]
    assert gauge.name == "serve_num_ongoing_http_requests"
    assert [(sample.labels, sample.value) for sample in gauge.samples] == [(node_labels(), 3.0)]


def test_what_was_deleted_is_forgotten() -> None:
    case = Case()
    for key in ("app#D", "other#D"):
        app = key.partition("#")[0]
        case.metrics.finished(("GET", f"/{app}", "", 200, key), 0.003)
        case.metrics.finished(("ODD", f"/{app}", "", 503, key), 0.003)
    case.metrics.forget("app#D")
    left = {dict(tags)["application"] for series in case.found().values() for tags in series}
    assert left == {"other"}
    case.metrics.finished(("GET", "/app", "", 200, "app#D"), 0.003)
    assert sum(case.found()["serve_num_http_requests"].values()) == 3.0


def test_an_application_whose_ingress_has_another_name_goes_on_counting() -> None:
    case = Case()
    for key in ("app#Old", "app#New"):
        case.metrics.finished(("GET", "/a", "", 503, key), 0.003)
    case.metrics.forget("app#Old")
    case.metrics.finished(("GET", "/a", "", 503, "app#New"), 0.003)
    found = case.found()
    assert list(found["serve_num_http_requests"].values()) == [3.0]
    by_ingress = found["serve_num_deployment_http_error_requests"]
    assert {dict(tags)["deployment"]: value for tags, value in by_ingress.items()} == {"New": 1.0}


def test_forgotten_requests_beyond_the_bound_stay_part_of_the_sum() -> None:
    case = Case()
    for number in range(1100):
        case.metrics.finished(("GET", f"/{number}", "", 200, f"app{number}#D"), 0.003)
    before = sum(case.found()["serve_num_http_requests"].values())
    case.metrics.forget("app1000#D")
    case.metrics.forget("app1050#D")
    assert sum(case.found()["serve_num_http_requests"].values()) == before
