"""Config files: every mistake at once, each with its place; unknown keys warn; overrides laid over code."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.decided import application

from eagleray.base.errors import ConfigError
from eagleray.spec.application import ApplicationSpec
from eagleray.spec.config import ServeDeploySchema, check_depth, check_import_path, parse_config, read_config
from eagleray.spec.overlay import overlay, scaled_count


def config(**application_keys: Any) -> dict[str, Any]:
    return {"applications": [{"name": "a", "import_path": "hello:app", **application_keys}]}


def refusal(data: Any) -> list[str]:
    """The lines of the refusal, without the first."""
    with pytest.raises(ConfigError) as raised:
        read_config(data, "f.yaml")
    first, *lines = str(raised.value).splitlines()
    assert first.startswith("f.yaml")
    return lines


# ---- reading -----------------------------------------------------------------------------------------------------


def test_a_whole_file() -> None:
    data = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 8001, "root_path": "/x", "keep_alive_timeout_s": 10},
        "grpc_options": {"port": 9001, "grpc_servicer_functions": ["m.f"], "enable_reflection": False},
        "controller_options": {"runtime_env": {"env_vars": {"A": "1"}}},
        "logging_config": {"encoding": "JSON", "log_level": "DEBUG"},
        "tracing_config": {"enabled": False},
        "target_capacity": 50,
        "applications": [
            {
                "name": "a",
                "route_prefix": "/a",
                "import_path": "pkg.mod:make",
                "runtime_env": {"env_vars": {"B": "2"}},
                "args": {"size": "big"},
                "logging_config": {"log_level": "ERROR"},
                "external_scaler_enabled": True,
                "deployments": [
                    {
                        "name": "D",
                        "num_replicas": 3,
                        "max_ongoing_requests": 7,
                        "max_queued_requests": 10,
                        "backpressure_config": {"status_code": 429, "retry_after_s": 1},
                        "user_config": {"k": [1]},
                        "graceful_shutdown_wait_loop_s": 1,
                        "graceful_shutdown_timeout_s": 5,
                        "health_check_period_s": 1,
                        "health_check_timeout_s": 2,
                        "ray_actor_options": {"num_cpus": 2},
                        "logging_config": {"enable_access_log": False},
                        "request_router_config": {"max_backoff_s": 1},
                        "rolling_update_percentage": 0.5,
                        "max_surge_percent": 50,
                    }
                ],
            },
            {"name": "b", "route_prefix": None, "import_path": "mod.app"},
        ],
    }
    schema, warnings = parse_config(data)
    assert warnings == []
    assert schema.http_options.port == 8001 and schema.grpc_options.host is None
    assert schema.applications[0].deployments[0].max_ongoing_requests == 7
    assert schema.applications[1].route_prefix is None
    assert schema.target_capacity == 50
    assert ServeDeploySchema.model_validate(data) == schema


def test_defaults_are_those_of_ray() -> None:
    schema, warnings = parse_config({"applications": [{"import_path": "m.app"}]})
    assert (schema.proxy_location, schema.http_options.host, schema.http_options.port) == (
        "EveryNode",
        "0.0.0.0",
        8000,
    )
    assert (schema.applications[0].name, schema.applications[0].route_prefix) == ("default", "/")
    assert schema.target_capacity is None and not schema.applications[0].external_scaler_enabled
    assert warnings == []


def test_all_mistakes_come_at_once_with_their_places() -> None:
    data = {
        "target_capacity": 200,
        "http_options": {"port": "x", "ssl_keyfile": "k"},
        "logging_config": {"log_lvl": "INFO"},
        "applications": [
            {
                "name": "a",
                "import_pth": "m:app",
                "route_prefix": "x",
                "deployments": [
                    {"name": "D", "num_replicas": 0},
                    {"name": "D", "num_replicas": "many", "health_check_period_s": -1},
                    {"name": "E", "ray_actor_options": {"num_gpus": -2}},
                ],
            },
            {"name": "a", "import_path": "nothing", "port": 80, "route_prefix": "/b"},
            3,
        ],
    }
    lines = refusal(data)
    places = [line.partition(": ")[0] for line in lines]
    assert sorted(places) == sorted(
        [
            "target_capacity",
            "http_options",
            "http_options.port",
            "logging_config.log_lvl",
            "applications[0].import_path",
            "applications[0].route_prefix",
            "applications[0].deployments[0].num_replicas",
            "applications[0].deployments[1].num_replicas",
            "applications[0].deployments[1].health_check_period_s",
            "applications[0].deployments[1].name",
            "applications[0].deployments[2].ray_actor_options.num_gpus",
            "applications[1].name",
            "applications[1].import_path",
            "applications[1].port",
            "applications[2]",
        ]
    )
    assert "applications[0].deployments[0].num_replicas: must be greater than or equal to 1, got 0" in lines
    assert "applications[0].import_path: is required; is 'import_pth' meant to be it?" in lines
    assert "logging_config.log_lvl: this key is unknown; did you mean 'log_level'?" in lines
    assert (
        "applications[1].name: application name 'a' is used by applications[0].name already: it must be unique"
        in lines
    )


@pytest.mark.parametrize(
    ("path", "key", "meant"),
    [
        ((), "aplication", "known are"),
        ((), "target_capcity", "'target_capacity'"),
        (("applications", 0), "route_prefx", "'route_prefix'"),
        (("applications", 0, "deployments", 0), "num_replica", "'num_replicas'"),
        (("applications", 0, "deployments", 0), "max_constructor_retry_count", "known are"),
        (("applications", 0, "deployments", 0, "ray_actor_options"), "num_cpu", "'num_cpus'"),
    ],
)
def test_unknown_keys_warn_and_are_left_out(path: tuple[Any, ...], key: str, meant: str) -> None:
    plain = config(deployments=[{"name": "D", "ray_actor_options": {}}])
    data = copy.deepcopy(plain)
    place: Any = data
    for step in path:
        place = place[step]
    place[key] = 1
    read = read_config(data)
    (warning,) = read.warnings
    assert f"{key}: this key is unknown and is ignored" in warning and meant in warning
    assert read.data == plain


def test_the_old_name_of_a_limit_is_read_as_the_new_one() -> None:
    data = config(deployments=[{"name": "D", "max_concurrent_queries": 50, "num_replicas": 2}, {"name": "E"}])
    kept = copy.deepcopy(data)
    read = read_config(data)
    assert data == kept, "the caller's file stays as it is"
    new = [{"name": "D", "max_ongoing_requests": 50, "num_replicas": 2}, {"name": "E"}]
    assert read.data == config(deployments=new)
    (warning,) = read.warnings
    place = "applications[0].deployments[0].max_concurrent_queries"
    assert warning == f"{place}: is deprecated: use max_ongoing_requests"
    both = {"name": "D", "max_concurrent_queries": 50, "max_ongoing_requests": 5}
    read = read_config(config(deployments=[both]))
    assert read.data == config(deployments=[{"name": "D", "max_ongoing_requests": 5}])


@pytest.mark.parametrize("key", ["logging_config", "backpressure_config", "request_router_config"])
def test_sections_that_refuse_unknown_keys(key: str) -> None:
    (line,) = refusal(config(deployments=[{"name": "D", key: {"nonsense": 1}}]))
    assert line.startswith(f"applications[0].deployments[0].{key}.nonsense: this key is unknown")


def test_what_must_agree() -> None:
    scaling = {"name": "D", "num_replicas": 2, "autoscaling_config": {"min_replicas": 1}}
    lines = refusal(config(deployments=[scaling], external_scaler_enabled=True))
    places = {line.partition(": ")[0] for line in lines}
    assert "applications[0].deployments[0]" in places and "exclude each other" in " ".join(lines)
    assert "applications[0].deployments[0].autoscaling_config" in places
    two = {"applications": [{"name": name, "import_path": "m:a"} for name in "ab"]}
    (line,) = refusal(two)
    assert line.startswith("applications[1]: route prefix '/' is used by applications[0] already")


def test_autoscaling_that_can_never_happen_is_doubted() -> None:
    scaling = {"max_replicas": 3, "target_ongoing_requests": 10}
    read = read_config(
        config(deployments=[{"name": "D", "max_ongoing_requests": 5, "autoscaling_config": scaling}])
    )
    (warning,) = read.warnings
    assert warning.startswith(
        "applications[0].deployments[0].max_ongoing_requests: autoscaling will never happen"
    )


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_what_is_no_mapping(data: Any) -> None:
    assert refusal(data) == []


def test_no_message_repeats_a_secret() -> None:
    data = config(runtime_env={"env_vars": {"TOKEN": 271828}})
    lines = refusal(data | {"http_options": {"ssl_keyfile_password": 314159}})
    assert len(lines) == 2 and not any("271828" in line or "314159" in line for line in lines), lines


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_replicas", 10**9),
        ("max_queued_requests", 2**70),
        ("max_ongoing_requests", 2**64),
        ("health_check_period_s", 1e308),
        ("ray_actor_options", {"memory": 1e300}),
        ("ray_actor_options", {"resources": {"x": 1e30}}),
        ("autoscaling_config", {"max_replicas": 10**9}),
        ("autoscaling_config", {"policy": {"policy_function": "a:b", "policy_kwargs": {"n": 2**70}}}),
        ("request_router_config", {"request_router_class": "a:b", "request_router_kwargs": {"n": 2**70}}),
        (
            "request_router_config",
            {
                "request_router_class": "ConsistentHashRouter",
                "request_router_kwargs": {"num_virtual_nodes": 10**9},
            },
        ),
    ],
)
def test_numbers_that_would_stop_the_controller(option: str, value: Any) -> None:
    (line,) = refusal(config(deployments=[{"name": "D", option: value}]))
    assert line.startswith(f"applications[0].deployments[0].{option}")


def test_arguments_travel_as_they_are_or_are_refused() -> None:
    (line,) = refusal(config(args={"seed": 2**70}))
    assert line.startswith("applications[0].args") and "args must be JSON-serialisable" in line
    policy = {"policy_function": "a:b", "policy_kwargs": {"n": 2**70}}
    (line,) = refusal(config(autoscaling_policy=policy))
    assert line.startswith("applications[0].autoscaling_policy.policy_kwargs")


def test_auto_needs_only_the_bounds_that_are_other_than_its_own() -> None:
    written = {"name": "D", "num_replicas": "auto", "autoscaling_config": {"min_replicas": 3}}
    (found,) = read_config(config(deployments=[written])).schema.applications[0].deployments
    assert found.autoscaling_config is not None
    assert (found.autoscaling_config.min_replicas, found.autoscaling_config.max_replicas) == (3, 100)
    written["autoscaling_config"] = {"min_replicas": 300}
    (line,) = refusal(config(deployments=[written]))
    assert "max_replicas (100) must be at least min_replicas (300)" in line


def test_what_is_nested_too_deeply() -> None:
    deep: Any = 1
    for _ in range(90):
        deep = [deep]
    check_depth(config(args={"a": deep}), "f.yaml")
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ConfigError, match=r"f\.yaml is nested more than 100 levels deep"):
        check_depth(config(args={"a": deep}), "f.yaml")


@pytest.mark.parametrize("path", ["hello:app", "pkg.sub:app", "hello.app", "pkg.sub.app", "hello:Class.app"])
def test_an_import_path_has_a_colon_or_a_dot(path: str) -> None:
    assert check_import_path(path) == path


@pytest.mark.parametrize("path", ["hello", "", ":app", "hello:", ".app", "hello.", "a:b:c"])
def test_what_is_no_import_path(path: str) -> None:
    with pytest.raises(ValueError, match="module:attribute"):
        check_import_path(path)


def test_the_former_format_of_a_single_application_is_told() -> None:
    with pytest.raises(ConfigError, match="list it below the key 'applications'"):
        read_config({"import_path": "m:app"})


# ---- laid over code ----------------------------------------------------------------------------------------------


def laid(written: dict[str, Any], **deployments: Any) -> ApplicationSpec:
    code = ApplicationSpec.from_json(application("a", **deployments).encode())
    return ApplicationSpec.from_json(overlay(code, written).to_json())


def test_config_beats_code_option_by_option() -> None:
    spec = laid(
        {"route_prefix": "/x", "deployments": [{"name": "D", "num_replicas": 4, "user_config": {"b": 2}}]},
        D={"num_replicas": 2, "max_ongoing_requests": 9, "user_config": {"a": 1}},
        E={"num_replicas": 3},
    )
    assert (spec.route_prefix, spec.source) == ("/x", "declarative")
    first, second = spec.deployments
    assert (first.spec.num_replicas, first.spec.max_ongoing_requests) == (4, 9)
    assert first.spec.user_config == {"b": 2}, "options are replaced whole"
    assert second.spec.num_replicas == 3
    assert first.spec.given == {"name", "num_replicas", "max_ongoing_requests", "user_config"}


def test_actor_options_are_replaced_whole_and_environments_merged() -> None:
    spec = laid(
        {
            "runtime_env": {"env_vars": {"A": "app", "B": "app"}, "working_dir": "/app"},
            "deployments": [
                {"name": "D", "ray_actor_options": {"runtime_env": {"env_vars": {"B": "deployment"}}}}
            ],
        },
        D={"ray_actor_options": {"num_cpus": 3}},
        E={"ray_actor_options": {"num_cpus": 2}},
    )
    first, second = (one.spec.ray_actor_options for one in spec.deployments)
    assert first.runtime_env is not None and second.runtime_env is not None
    assert first.runtime_env.env_vars == {"A": "app", "B": "deployment"}
    assert first.runtime_env.working_dir == "/app"
    assert (first.num_cpus, second.num_cpus) == (1, 2)
    assert second.runtime_env.env_vars == {"A": "app", "B": "app"}


def test_an_override_of_nothing_is_told_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"Deployment 'X' does not exist\. Available: \['D', 'E'\]"):
        laid({"deployments": [{"name": "X"}]}, D={}, E={})


def test_code_that_autoscales_is_not_scaled_from_outside() -> None:
    code: dict[str, Any] = {"D": {"autoscaling_config": {"max_replicas": 3}}}
    with pytest.raises(ConfigError, match=r"external_scaler_enabled .* autoscale: \['D'\]"):
        laid({"external_scaler_enabled": True}, **code)
    fixed = {"external_scaler_enabled": True, "deployments": [{"name": "D", "num_replicas": 2}]}
    assert laid(fixed, **code).deployments[0].spec.num_replicas == 2


def test_logging_of_the_file_is_that_of_applications_without_one() -> None:
    code = ApplicationSpec.from_json(application("a").encode())
    spec = overlay(code, {}, {"log_level": "ERROR"})
    assert spec.logging_config is not None and spec.logging_config.log_level == "ERROR"
    spec = overlay(code, {"logging_config": {"log_level": "DEBUG"}}, {"log_level": "ERROR"})
    assert spec.logging_config is not None and spec.logging_config.log_level == "DEBUG"


@pytest.mark.parametrize(
    ("count", "capacity", "expected"),
    [(4, None, 4), (4, 50, 2), (5, 50, 3), (1, 10, 1), (3, 10, 1), (0, 50, 0), (7, 0, 0), (7, 100, 7)],
)
def test_target_capacity_rounds_half_up_and_keeps_one(
    count: int, capacity: float | None, expected: int
) -> None:
    assert scaled_count(count, capacity) == expected


def test_what_is_read_is_plain_json() -> None:
    data = config(deployments=[{"name": "D", "user_config": {"a": None}}], args={"x": 1})
    assert json.loads(json.dumps(read_config(data).data)) == data
