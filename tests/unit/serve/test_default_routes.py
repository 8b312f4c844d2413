"""Prefixes of applications that name none: today's error, or their name for programs that were written for Ray."""

from __future__ import annotations

import pytest

from eagleray import as_ray, serve
from eagleray.serve.default_routes import settle
from eagleray.serve.targets import RunTarget


@serve.deployment
def model() -> None: ...


TARGETS = [
    RunTarget(model.bind(), "a"),
    RunTarget(model.bind(), "b"),
    RunTarget(model.bind(), "c", "/"),
    RunTarget(model.bind(), "d", None),
    RunTarget(model.bind(), "e", "/else"),
]


def test_by_our_own_name_nothing_is_changed() -> None:
    assert settle(TARGETS, None) is TARGETS
    assert [one.route_prefix for one in TARGETS] == ["/", "/", "/", None, "/else"]


def test_by_rays_names_the_next_ones_are_served_under_their_name() -> None:
    with as_ray.hook(), pytest.warns(DeprecationWarning, match="route_prefix='/b'") as caught:
        settled = settle(TARGETS, None)
    assert [one.route_prefix for one in settled] == ["/", "/b", "/", None, "/else"], "what was written stands"
    assert [one.name for one in settled] == list("abcde") and len(caught) == 1
    with as_ray.hook():
        assert settle(TARGETS[2:], None) == TARGETS[2:]
