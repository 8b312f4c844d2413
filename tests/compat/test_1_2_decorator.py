"""Surface 1.2: `@serve.deployment`, its forms, defaults and validation at decoration time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.compat.impl import differs, serve


class Plain:
    def __call__(self) -> str:
        return "plain"


def function() -> str:
    return "function"


def test_decorator_can_be_bare_parametrised_or_called() -> None:
    bare = serve.deployment(Plain)
    parametrised = serve.deployment(num_replicas=2)(Plain)
    assert (bare.name, bare.num_replicas, bare.func_or_class) == ("Plain", 1, Plain)
    assert (parametrised.name, parametrised.num_replicas) == ("Plain", 2)
    assert serve.deployment(function).name == "function"
    assert serve.deployment(name="other")(function).name == "other"


def test_defaults() -> None:
    deployment = serve.deployment(Plain)
    assert deployment.num_replicas == 1
    assert deployment.max_ongoing_requests == 5
    assert deployment.max_queued_requests == -1
    assert deployment.user_config is None
    assert getattr(deployment.backpressure_config, "status_code", 503) == 503
    assert deployment.logging_config is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", 1),
        ("name", "a#b"),
        ("version", "v1"),
        ("num_replicas", 0),
        ("num_replicas", -1),
        ("ray_actor_options", {"max_restarts": 1}),
        ("ray_actor_options", {"name": "x"}),
        ("ray_actor_options", {"num_gpus": -1}),
        ("ray_actor_options", {"num_cpus": "two"}),
        ("ray_actor_options", []),
        ("user_config", {"a": object()}),
        ("max_ongoing_requests", None),
        ("max_ongoing_requests", 0),
        ("max_ongoing_requests", -1),
        ("max_ongoing_requests", "many"),
        ("max_queued_requests", 0),
        ("max_queued_requests", -2),
        ("max_queued_requests", "many"),
        ("max_queued_requests", 1.5),
        ("backpressure_config", {"status_code": 500}),
        ("backpressure_config", {"unknown": 1}),
        ("backpressure_config", {"retry_after_s": -1}),
        ("graceful_shutdown_wait_loop_s", -1),
        ("graceful_shutdown_timeout_s", -1),
        ("health_check_period_s", 0),
        ("health_check_timeout_s", 0),
        ("logging_config", {"unknown": 1}),
        ("logging_config", {"log_level": "info"}),
        ("max_constructor_retry_count", 0),
        ("rolling_update_percentage", 0),
        ("rolling_update_percentage", 1.5),
        ("max_surge_percent", -1),
        ("max_surge_percent", 101),
    ],
)
def test_bad_values_are_refused_at_decoration(option: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        serve.deployment(**{option: value})(Plain)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_replicas", None),
        ("num_replicas", 3),
        ("ray_actor_options", {"num_cpus": 0.5, "num_gpus": 0, "resources": {"disk": 1}}),
        ("ray_actor_options", {"runtime_env": {"env_vars": {"A": "1"}}}),
        ("user_config", {"a": [1, None, "x"]}),
        ("max_ongoing_requests", 100),
        ("max_queued_requests", -1),
        ("max_queued_requests", 7),
        ("backpressure_config", {"status_code": 429, "retry_after_s": 1.5}),
        ("graceful_shutdown_wait_loop_s", 0),
        ("graceful_shutdown_timeout_s", 0),
        ("health_check_period_s", 0.5),
        ("logging_config", {"log_level": "DEBUG", "encoding": "JSON"}),
        ("rolling_update_percentage", 1),
        ("max_surge_percent", 100),
    ],
)
def test_good_values_are_taken(option: str, value: Any) -> None:
    serve.deployment(**{option: value})(Plain)


@pytest.mark.parametrize("option", ["route_prefix", "init_args", "unheard_of"])
def test_unknown_options_are_type_errors(option: str) -> None:
    with pytest.raises(TypeError):
        serve.deployment(**{option: 1})


@pytest.mark.parametrize("target", [1, object()])
def test_only_functions_and_classes_can_be_deployed(target: object) -> None:
    with pytest.raises(TypeError):
        serve.deployment()(target)


@differs("undeployable-text")
def test_a_string_cannot_be_deployed() -> None:
    with pytest.raises(TypeError):
        serve.deployment()("text")


def test_a_function_takes_no_bound_arguments() -> None:
    with pytest.raises(ValueError):
        serve.deployment(function).bind(1)
    with pytest.raises(ValueError):
        serve.deployment(function).bind(a=1)


@differs("legacy-names")
def test_legacy_names_of_options_work_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="use max_ongoing_requests"):
        deployment = serve.deployment(max_concurrent_queries=7)(Plain)
    assert deployment.max_ongoing_requests == 7
    with pytest.warns(DeprecationWarning, match="use max_ongoing_requests"):
        assert deployment.options(max_concurrent_queries=8).max_ongoing_requests == 8
    with pytest.warns(DeprecationWarning, match="object_store_memory"):
        serve.deployment(ray_actor_options={"object_store_memory": 2**30, "num_cpus": 2})(Plain)
