"""The options of a deployment, row by row of the surface file's table 1.2, and what a change of them does."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eagleray.serve.autoscaling_policy import LatencyTargetPolicy
from eagleray.spec.base import Effect, effect_of
from eagleray.spec.change import changed_fields, diff
from eagleray.spec.deployment import DeploymentSpec, ReplicaResources


def spec(**options: Any) -> DeploymentSpec:
    return DeploymentSpec.model_validate({"name": "d", **options})


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("num_replicas", 1),
        ("max_ongoing_requests", 5),
        ("max_queued_requests", -1),
        ("user_config", None),
        ("backpressure_config", None),
        ("graceful_shutdown_wait_loop_s", 2.0),
        ("graceful_shutdown_timeout_s", 20.0),
        ("health_check_period_s", 10.0),
        ("health_check_timeout_s", 30.0),
        ("logging_config", None),
        ("max_constructor_retry_count", 20),
        ("rolling_update_percentage", 0.2),
        ("max_surge_percent", 0),
    ],
)
def test_defaults_are_ray_serves(name: str, default: Any) -> None:
    assert getattr(spec(), name) == default
    assert name not in spec().given


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a#b"},
        {"num_replicas": 0},
        {"num_replicas": 1.5},
        {"num_replicas": True},
        {"max_ongoing_requests": None},
        {"max_ongoing_requests": 0},
        {"max_queued_requests": 0},
        {"max_queued_requests": -2},
        {"max_queued_requests": "many"},
        {"user_config": complex},
        {"user_config": {"deep": [{1, 2}]}},
        {"user_config": {"big": 2**70}},
        {"user_config": "\ud800"},
        {"backpressure_config": {"status_code": 500}},
        {"backpressure_config": {"retry_after_s": -1}},
        {"backpressure_config": {"retry_after_s": float("inf")}},
        {"backpressure_config": {"unknown": 1}},
        {"graceful_shutdown_wait_loop_s": -0.1},
        {"graceful_shutdown_timeout_s": -1},
        {"graceful_shutdown_timeout_s": float("nan")},
        {"health_check_period_s": 0},
        {"health_check_timeout_s": 0},
        {"logging_config": {"log_level": "info"}},
        {"logging_config": {"unknown": 1}},
        {"max_constructor_retry_count": 0},
        {"rolling_update_percentage": 0},
        {"rolling_update_percentage": 1.1},
        {"max_surge_percent": 101},
        {"version": "v1"},
        {"no_such_option": 1},
    ],
    ids=str,
)
def test_a_wrong_value_is_a_value_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**options)
    assert issubclass(ValidationError, ValueError)


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        spec(num_replicas=0, max_ongoing_requests=0, health_check_period_s=0)
    assert {error["loc"] for error in caught.value.errors()} == {
        ("num_replicas",),
        ("max_ongoing_requests",),
        ("health_check_period_s",),
    }


def test_automatic_scaling_has_other_defaults() -> None:
    config = spec(num_replicas="auto").autoscaling_config
    assert config is not None
    assert (config.min_replicas, config.max_replicas, config.target_ongoing_requests) == (1, 100, 2)
    config = spec(num_replicas="auto", autoscaling_config={"max_replicas": 7}).autoscaling_config
    assert config is not None and (config.min_replicas, config.max_replicas) == (1, 7)


def test_a_fixed_number_and_autoscaling_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        spec(num_replicas=2, autoscaling_config={"max_replicas": 7})


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_replicas": 3, "max_replicas": 2},
        {"max_replicas": 3, "initial_replicas": 4},
        {"max_replicas": 0},
        {"target_ongoing_requests": 0},
        {"upscale_delay_s": -1},
        {"aggregation_function": "median"},
        {"policy": {"policy_kwargs": {"a": object()}}},
        {"policy": {"policy_function": "ray.serve.autoscaling_policy:no_such_policy"}},
        {"policy": {"policy_function": ""}},
        {"policy": {"policy_function": LatencyTargetPolicy}},
        {"policy": {"policy_function": LatencyTargetPolicy, "policy_kwargs": {"p95_ms": 0}}},
        {"target_requests": 5},
    ],
)
def test_wrong_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(autoscaling_config=wrong)


def test_none_replicas_means_the_default() -> None:
    assert spec(num_replicas=None).num_replicas == 1


def test_user_config_is_kept_as_json_says_it() -> None:
    assert spec(user_config={"a": (1, 2)}).user_config == {"a": [1, 2]}


@pytest.mark.parametrize(
    "resources",
    [
        {"max_restarts": 1},
        {"name": "x"},
        {"num_cpus": -1},
        {"num_cpus": "two"},
        {"num_gpus": 1.5},
        {"resources": {"GPU": 1}},
        {"resources": {"x": -1}},
        {"runtime_env": {"conda": ["numpy"]}},
        {"runtime_env": {"env_vars": {"A": 1}}},
        {"label_selector": {"a": "b"}},
    ],
    ids=str,
)
def test_wrong_resources_are_refused(resources: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(ray_actor_options=resources)


def test_a_kind_of_accelerator_is_taken_and_choosing_nodes_is_refused_with_a_reason() -> None:
    assert spec(ray_actor_options={"accelerator_type": "H200"}).ray_actor_options.accelerator_type == "H200"
    for name, value in (("label_selector", {"zone": "a"}), ("fallback_strategy", [{"label_selector": {}}])):
        assert spec(ray_actor_options={name: None}) == spec(ray_actor_options={})
        with pytest.raises(ValidationError, match="chooses nodes, which needs the Ray engine"):
            spec(ray_actor_options={name: value})


def test_resources_default_to_one_cpu() -> None:
    assert spec().ray_actor_options == ReplicaResources()
    assert (ReplicaResources().num_cpus, ReplicaResources().num_gpus, ReplicaResources().memory) == (1, 0, 0)
    given = spec(
        ray_actor_options={"num_cpus": None, "num_gpus": 0.5, "label_selector": None}
    ).ray_actor_options
    assert (given.num_cpus, given.num_gpus) == (1, 0.5)


@pytest.mark.parametrize(
    ("options", "effect"),
    [
        ({}, Effect.NONE),
        ({"num_replicas": 1}, Effect.NONE),
        ({"max_queued_requests": 7}, Effect.NONE),
        ({"health_check_period_s": 1}, Effect.NONE),
        ({"num_replicas": 2}, Effect.SCALE),
        ({"max_ongoing_requests": 9}, Effect.RECONFIGURE),
        ({"user_config": {"a": 1}}, Effect.RECONFIGURE),
        ({"num_replicas": 3, "user_config": 1}, Effect.RECONFIGURE),
        ({"ray_actor_options": {"num_gpus": 1}}, Effect.RESTART),
        ({"ray_actor_options": {"num_cpus": 1}}, Effect.NONE),
    ],
    ids=str,
)
def test_a_change_has_the_effect_of_its_strongest_option(options: dict[str, Any], effect: Effect) -> None:
    assert diff(spec(), spec(**options)) is effect
    assert bool(changed_fields(spec(), spec(**options))) == (spec() != spec(**options))


def test_every_option_declares_its_effect() -> None:
    for name, field in DeploymentSpec.model_fields.items():
        assert isinstance(field.json_schema_extra, dict) and "effect" in field.json_schema_extra, name
        assert effect_of(DeploymentSpec, name) in Effect
