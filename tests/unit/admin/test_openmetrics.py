"""The text: names, escapes, buckets and exemplars, read back by the parsers that Prometheus' own client has."""

from __future__ import annotations

import math

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from eagleray.admin.openmetrics import render, wants_openmetrics
from eagleray.base.metrics import COUNTER, GAUGE, HISTOGRAM, Sample, Snapshot

NASTY = 'a"b\\c\nd é \\n'


def read(
    snapshots: list[Snapshot], *, openmetrics: bool
) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    text = render(snapshots, openmetrics=openmetrics).decode()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in (parse_openmetrics if openmetrics else parse_text)(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


@pytest.mark.parametrize("openmetrics", [False, True])
def test_names_are_rays_and_values_come_back(openmetrics: bool) -> None:
    snapshots = [
        Snapshot(
            "serve_calls", "counter", NASTY, ("route",), (), [Sample((NASTY,), 3.0), Sample(("",), 0.5)]
        ),
        Snapshot("serve_checks_total", "counter", "Once only.", (), (), [Sample((), 2.0**60)]),
        Snapshot("eagleray_load", "gauge", "Ours.", ("a", "b"), (), [Sample(("1", ""), -1e-9)]),
        Snapshot("serve_empty", "gauge", "Nothing yet.", ("a",)),
        Snapshot(
            "serve_odd", "gauge", "Odd.", ("v",), (), [Sample(("i",), math.inf), Sample(("n",), -math.inf)]
        ),
    ]
    found = read(snapshots, openmetrics=openmetrics)
    assert found["ray_serve_calls_total"] == {(("route", NASTY),): 3.0, (): 0.5}
    assert found["ray_serve_checks_total"] == {(): 2.0**60}
    assert found["eagleray_load"] == {(("a", "1"),): -1e-9}
    assert found["ray_serve_odd"] == {(("v", "i"),): math.inf, (("v", "n"),): -math.inf}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_buckets_are_cumulative(openmetrics: bool) -> None:
    sample = Sample(("/a",), 27.5, [2, 2, 1])
    found = read(
        [Snapshot("ms", "histogram", "H.", ("route",), (1, 10.5), [sample])], openmetrics=openmetrics
    )
    buckets = {dict(key)["le"]: value for key, value in found["ray_ms_bucket"].items()}
    assert list(buckets.values()) == [2, 4, 5]
    assert [float(bound) for bound in buckets] == [1.0, 10.5, math.inf]
    assert found["ray_ms_sum"] == {(("route", "/a"),): 27.5}
    assert found["ray_ms_count"] == {(("route", "/a"),): 5.0}


@pytest.mark.parametrize(("value", "bound"), [(0.5, "1.0"), (10, "10.0"), (11, "+Inf")])
def test_an_exemplar_is_on_the_bucket_that_holds_it(value: float, bound: str) -> None:
    sample = Sample((), 20.0, [1, 1, 1], ("4bf92f3577b34da6", value, 1700000000.25))
    (family,) = parse_openmetrics(
        render([Snapshot("ms", "histogram", "H.", (), (1, 10), [sample])], openmetrics=True).decode()
    )
    with_exemplar = [one for one in family.samples if one.exemplar is not None]
    assert [one.labels["le"] for one in with_exemplar] == [bound]
    exemplar = with_exemplar[0].exemplar
    assert exemplar is not None
    assert (exemplar.labels, exemplar.value) == ({"trace_id": "4bf92f3577b34da6"}, value)
    assert b"trace_id" not in render([Snapshot("ms", "histogram", "H.", (), (1, 10), [sample])])


def test_a_family_is_in_one_piece_and_of_one_kind() -> None:
    snapshots = [
        Snapshot("mine", "gauge", "M.", ("a",), (), [Sample(("1",), 1.0)]),
        Snapshot("other", "gauge", "O.", (), (), [Sample((), 1.0)]),
        Snapshot("mine", "gauge", "M.", ("b",), (), [Sample(("2",), 2.0)]),
        Snapshot("mine", "counter", "M.", ("c",), (), [Sample(("3",), 3.0)]),
    ]
    text = render(snapshots, openmetrics=True).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'ray_mine{a="1"} 1',
        'ray_mine{b="2"} 2',
        "ray_other 1",
    ]
    assert text.endswith("# EOF\n")
    assert list(parse_openmetrics(text))


@pytest.mark.parametrize(
    ("accept", "is_wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", False),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.2", True),
        ("text/plain, Application/OpenMetrics-Text", True),
        ("application/openmetrics-text;q=0", False),
    ],
)
def test_accept(accept: str, is_wanted: bool) -> None:
    assert wants_openmetrics(accept) is is_wanted


def test_lines_of_two_metrics_are_never_called_alike() -> None:
    sample = Sample(("a",), 1.0)
    shown = render(
        [
            Snapshot("seen", COUNTER, "", ("x",), (), [sample]),
            Snapshot("seen_total", COUNTER, "", ("x",), (), [sample]),
            Snapshot("seen_total", GAUGE, "", ("x",), (), [sample]),
            Snapshot("took", HISTOGRAM, "", ("x",), (1.0,), [Sample(("a",), 1.0, [1, 0])]),
            Snapshot("took_count", GAUGE, "", ("x",), (), [sample]),
            Snapshot("took_most", GAUGE, "", ("x",), (), [sample]),
        ]
    ).decode()
    names = [line.partition("{")[0] for line in shown.splitlines() if not line.startswith("#")]
    assert names == [
        "ray_seen_total",
        "ray_took_bucket",
        "ray_took_bucket",
        "ray_took_sum",
        "ray_took_count",
        "ray_took_most",
    ]
