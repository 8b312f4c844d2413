"""Options of one deployment laid over those that it runs with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eagleray.base.errors import ConfigError
from eagleray.spec.application import ApplicationSpec, BoundDeployment, CodeRef
from eagleray.spec.deployment import DeploymentSpec
from eagleray.spec.overlay import with_changes

ENVIRONMENT = {"env_vars": {"A": "1"}, "working_dir": "/code"}


def application(**options: Any) -> ApplicationSpec:
    def bound(name: str, **given: Any) -> BoundDeployment:
        spec = DeploymentSpec.model_validate({"name": name, **given})
        return BoundDeployment(
            spec=spec, code=CodeRef(target=f"m:{name}"), ingress=name == "Front", version="v"
        )

    return ApplicationSpec(
        name="a", route_prefix="/", deployments=[bound("Front"), bound("Model", **options)]
    )


def changed(spec: ApplicationSpec, **options: Any) -> DeploymentSpec:
    after = with_changes(spec, "Model", json.dumps(options).encode())
    assert after.deployments[0] == spec.deployments[0]
    assert after.deployments[1].version == "v" and after.deployments[1].code == spec.deployments[1].code
    return after.deployments[1].spec


def test_what_is_not_changed_stays() -> None:
    spec = application(num_replicas=2, user_config={"a": 1}, max_ongoing_requests=7)
    after = changed(spec, num_replicas=4)
    assert (after.num_replicas, after.user_config, after.max_ongoing_requests) == (4, {"a": 1}, 7)
    assert after.given == {"name", "num_replicas", "user_config", "max_ongoing_requests"}
    assert changed(spec) == spec.deployments[1].spec


def test_a_number_ends_autoscaling() -> None:
    after = changed(application(autoscaling_config={"max_replicas": 3}), num_replicas=2)
    assert after.autoscaling_config is None and after.num_replicas == 2


def test_the_runtime_environment_stays_below_other_resources() -> None:
    spec = application(ray_actor_options={"num_cpus": 2, "runtime_env": ENVIRONMENT})
    for options, env_vars in (
        ({"num_cpus": 1}, {"A": "1"}),
        ({"runtime_env": {"env_vars": {"B": "2"}}}, {"A": "1", "B": "2"}),
    ):
        resources = changed(spec, ray_actor_options=options).ray_actor_options
        assert resources.num_cpus == 1 and resources.runtime_env is not None
        assert resources.runtime_env.env_vars == env_vars and resources.runtime_env.working_dir == "/code"


def test_what_cannot_be_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"'Model' cannot have these options:\n.*num_replicas: must be"):
        changed(application(), num_replicas=0)
    with pytest.raises(ConfigError, match=r"'Modle' does not exist\. Available: \['Front', 'Model'\]"):
        with_changes(application(), "Modle", b"{}")
