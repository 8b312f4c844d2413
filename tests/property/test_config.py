"""Config files that somebody has damaged: whatever is wrong is told with a place that exists in the file, and nothing
but ConfigError ever comes of it."""

from __future__ import annotations

import copy
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.decided import application

from eagleray.base.errors import ConfigError
from eagleray.spec.application import ApplicationSpec
from eagleray.spec.config import read_config
from eagleray.spec.overlay import overlay

VALID: dict[str, Any] = {
    "proxy_location": "EveryNode",
    "http_options": {"host": "127.0.0.1", "port": 8000, "keep_alive_timeout_s": 90},
    "grpc_options": {"port": 9000, "grpc_servicer_functions": ["m:f"]},
    "logging_config": {"log_level": "INFO", "encoding": "TEXT"},
    "target_capacity": 100,
    "applications": [
        {
            "name": "a",
            "route_prefix": "/a",
            "import_path": "m:app",
            "runtime_env": {"env_vars": {"X": "1"}},
            "args": {"k": "v"},
            "deployments": [
                {
                    "name": "D",
                    "num_replicas": 2,
                    "max_ongoing_requests": 3,
                    "max_queued_requests": -1,
                    "user_config": {"deep": [1, {"er": 2}]},
                    "health_check_period_s": 1.5,
                    "ray_actor_options": {"num_cpus": 1, "resources": {"r": 1}},
                    "backpressure_config": {"status_code": 429},
                    "request_router_config": {"max_backoff_s": 1},
                },
                {"name": "E", "autoscaling_config": {"min_replicas": 1, "max_replicas": 3}},
            ],
        },
        {"name": "b", "route_prefix": "/b", "import_path": "m.app", "external_scaler_enabled": False},
    ],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


PLACES = places(VALID)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 200) | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text("abc", min_size=1, max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
MUTATIONS = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(["replace", "drop", "rename", "add"]), JSON),
    min_size=1,
    max_size=4,
)


def inside(place: Any, step: Any) -> bool:
    if isinstance(place, dict):
        return step in place
    return isinstance(place, list) and isinstance(step, int) and step < len(place)


def mutate(data: Any, path: tuple[Any, ...], how: str, value: Any) -> None:
    """Does nothing where an earlier mutation has taken the place away."""
    place, last = data, path[-1]
    for step in path[:-1]:
        if not inside(place, step):
            return
        place = place[step]
    if how == "add" and isinstance(place, dict):
        place[f"{last}_"] = value
    elif not inside(place, last):
        return
    elif how == "replace" or isinstance(place, list):
        place[last] = value
    else:
        former = place.pop(last)
        if how == "rename":
            place[last[:-1]] = former


def exists(data: Any, path: str) -> bool:
    """Whether the path leads somewhere, or names what is missing in a mapping that is there."""
    place = data
    parts = re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)
    steps: list[Any] = [int(index) if index else name for name, index in parts]
    for number, step in enumerate(steps):
        if (isinstance(place, dict) and step in place) or (
            isinstance(place, list) and isinstance(step, int) and step < len(place)
        ):
            place = place[step]
        else:
            return number == len(steps) - 1 and isinstance(place, dict)
    return True


@given(MUTATIONS)
def test_every_mistake_has_a_place_that_exists(mutations: list[tuple[tuple[Any, ...], str, Any]]) -> None:
    data = copy.deepcopy(VALID)
    for path, how, value in mutations:
        mutate(data, path, how, value)
    try:
        read = read_config(data)
    except ConfigError as error:
        first, *lines = str(error).splitlines()
        assert lines or "must be a mapping" in first or "applications" in first
        for line in lines:
            place, colon, text = line.partition(": ")
            assert colon and text and exists(data, place), line
        return
    for warning in read.warnings:
        assert exists(data, warning.partition(": ")[0]), warning
    assert read_config(read.data).data == read.data, "what is kept is itself a file"
    for name, written in read.applications.items():
        code = ApplicationSpec.from_json(application(name, D={"num_replicas": 1}, E={}).encode())
        try:
            laid = overlay(code, written)
        except ConfigError:
            continue
        assert ApplicationSpec.from_json(laid.to_json()) == laid
