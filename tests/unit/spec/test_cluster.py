"""Options that need Ray: checked as data, refused where something is deployed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from eagleray.base.errors import ConfigError
from eagleray.base.ray_names import NeedsRayError
from eagleray.spec.application import ApplicationSpec, BoundDeployment, CodeRef
from eagleray.spec.cluster import CLUSTER_OPTIONS, GangRuntimeFailurePolicy, GangSchedulingConfig
from eagleray.spec.config import read_config
from eagleray.spec.deployment import DeploymentSpec
from eagleray.spec.overlay import overlay, with_changes

BUNDLES = [{"CPU": 1}, {"CPU": 1, "GPU": 1}]

GOOD: dict[str, dict[str, Any]] = {
    "gang_scheduling_config": {"num_replicas": 4, "gang_scheduling_config": {"gang_size": 2}},
    "deployment_actors": {"deployment_actors": [{"name": "a", "actor_class": dict}]},
    "placement_group_bundles": {"placement_group_bundles": BUNDLES},
    "placement_group_strategy": {
        "placement_group_bundles": BUNDLES,
        "placement_group_strategy": "STRICT_PACK",
    },
    "placement_group_bundle_label_selector": {
        "placement_group_bundles": BUNDLES,
        "placement_group_bundle_label_selector": [{"zone": "a"}],
    },
    "max_replicas_per_node": {"num_replicas": 2, "max_replicas_per_node": 1},
}


def code(**options: Any) -> ApplicationSpec:
    spec = DeploymentSpec(name="D", **options)
    bound = BoundDeployment(spec=spec, code=CodeRef(target="m:D"), ingress=True, version="1")
    return ApplicationSpec(name="a", route_prefix="/", deployments=[bound])


@pytest.mark.parametrize("name", CLUSTER_OPTIONS)
def test_each_is_data_that_travels_and_cannot_be_deployed(name: str) -> None:
    written = code(**GOOD[name])
    (bound,) = ApplicationSpec.from_json(written.to_json()).deployments
    assert name in bound.spec.given
    told = "placement_group_bundles" if name.startswith("placement") else name
    with pytest.raises(
        NeedsRayError, match=f"Deployment 'D' has {told}: .*run the application on the Ray engine"
    ):
        overlay(written, {"deployments": []})
    override = {key: value for key, value in GOOD[name].items() if key != "deployment_actors"}
    if override:
        with pytest.raises(NeedsRayError, match=told):
            overlay(code(), {"deployments": [{"name": "D", **override}]})
        with pytest.raises(NeedsRayError, match=told):
            with_changes(code(), "D", json.dumps(override).encode())


@pytest.mark.parametrize("name", CLUSTER_OPTIONS)
def test_none_is_not_given(name: str) -> None:
    assert DeploymentSpec.model_validate({"name": "D", name: None}) == DeploymentSpec(name="D")
    without = {"placement_group_strategy": None, "placement_group_bundle_label_selector": None}
    overlay(code(**GOOD[name]), {"deployments": [{"name": "D", **dict.fromkeys(GOOD[name]), **without}]})


def test_a_limit_for_each_node_is_no_limit_when_one_node_may_have_them_all() -> None:
    overlay(code(num_replicas=3, max_replicas_per_node=3), {})
    scaled = {"autoscaling_config": {"max_replicas": 4}}
    overlay(code(**scaled, max_replicas_per_node=4), {})
    with pytest.raises(NeedsRayError, match="further replicas would wait for other nodes"):
        overlay(code(**scaled, max_replicas_per_node=3), {})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_replicas": 3, "gang_scheduling_config": {"gang_size": 2}}, "multiple of gang_size"),
        ({"gang_scheduling_config": {"gang_size": 0}}, "gang_size"),
        ({"gang_scheduling_config": {"gang_size": 1, "size": 1}}, "size"),
        ({"gang_scheduling_config": {"gang_size": 1, "gang_placement_strategy": "PAK"}}, "PACK"),
        ({"gang_scheduling_config": {"gang_size": 1}, "placement_group_bundles": BUNDLES,
          "placement_group_strategy": "PACK"}, "gang_placement_strategy"),
        ({"gang_scheduling_config": {"gang_size": 1}, "max_replicas_per_node": 1}, "exclude each other"),
        ({"deployment_actors": [{"name": "a", "actor_class": dict}] * 2}, "unique"),
        ({"deployment_actors": [{"name": "a", "actor_class": 1}]}, "must be a class"),
        ({"placement_group_bundles": []}, "list of resources"),
        ({"placement_group_bundles": [{"CPU": -1}]}, "greater than or equal"),
        ({"placement_group_bundles": [{"CPU": float("nan")}]}, "finite"),
        ({"placement_group_bundles": [{}]}, "list of resources"),
        ({"placement_group_bundles": [{"CPU": 0}]}, "list of resources"),
        ({"placement_group_bundles": BUNDLES, "ray_actor_options": {"num_cpus": 2}}, "lacks {'CPU': 2"),
        ({"placement_group_bundles": BUNDLES, "placement_group_strategy": "NEAR"}, "STRICT_PACK"),
        ({"placement_group_strategy": "PACK"}, "needs placement_group_bundles"),
        ({"placement_group_bundle_label_selector": [{}]}, "needs placement_group_bundles"),
        ({"placement_group_bundles": BUNDLES * 2, "placement_group_bundle_label_selector": [{}] * 3}, "4 bundles"),
        ({"placement_group_bundles": BUNDLES, "max_replicas_per_node": 1}, "exclude each other"),
        ({"max_replicas_per_node": 0}, "greater than or equal"),
        ({"max_replicas_per_node": 101}, "less than or equal"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DeploymentSpec(name="D", **options)
    assert text in str(caught.value)


def test_one_policy_exists_in_name_only() -> None:
    never = {"gang_scheduling_config": {"gang_size": 1, "runtime_failure_policy": "RESTART_REPLICA"}}
    with pytest.raises(NotImplementedError, match="RESTART_GANG"):
        DeploymentSpec.model_validate({"name": "D", **never})
    deployments = [{"name": "D", **never}]
    with pytest.raises(ConfigError, match="RESTART_GANG"):
        read_config({"applications": [{"import_path": "a:b", "deployments": deployments}]}, "file")
    with pytest.raises(ConfigError, match="RESTART_GANG"):
        overlay(code(), {"deployments": deployments})
    with pytest.raises(ConfigError, match="RESTART_GANG"):
        with_changes(code(), "D", json.dumps(never).encode())
    with pytest.raises(NotImplementedError, match="RESTART_GANG"):
        GangSchedulingConfig(gang_size=2, runtime_failure_policy=GangRuntimeFailurePolicy.RESTART_REPLICA)
