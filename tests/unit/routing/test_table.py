"""Longest prefix of whole segments wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eagleray.routing.table import Route, RouteMatcher, RoutingTable, decode_table, encode_table


@pytest.mark.parametrize(
    ("path", "app"),
    [
        ("/", "root"),
        ("/a", "a"),
        ("/a/", "a"),
        ("/a/b", "ab"),
        ("/a/b/", "ab"),
        ("/a/b/c", "ab"),
        ("/a/bc", "a"),
        ("/ab", "root"),
        ("/zzzzzzzz", "root"),
        ("*", None),
        ("", None),
    ],
)
def test_longest_prefix_of_whole_segments_wins(path: str, app: str | None) -> None:
    matcher = RouteMatcher(
        (Route("/a", "a", "a#d"), Route("/a/b", "ab", "ab#d"), Route("/", "root", "root#d"))
    )
    route = matcher.match(path)
    assert (route.app if route else None) == app


def test_nothing_matches_without_routes() -> None:
    assert RouteMatcher(()).match("/") is None


segments = st.lists(st.sampled_from(["a", "b", "ab", "c"]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.sets(segments, max_size=5), segments, st.booleans())
def test_matcher_agrees_with_the_definition(prefixes: set[str], path: str, slash: bool) -> None:
    path = path if not slash or path == "/" else path + "/"
    matcher = RouteMatcher(tuple(Route(p, p, "k") for p in prefixes))
    fitting = [p for p in prefixes if p == "/" or path == p or path.startswith(p + "/")]
    route = matcher.match(path)
    assert (route.prefix if route else None) == max(fitting, key=len, default=None)


def test_a_table_survives_the_wire() -> None:
    table = RoutingTable(
        version=3, routes=(Route("/", "app", "app#d"),), ingress={"app": "app#d"}, populated=True
    )
    assert decode_table(encode_table(table)) == table
