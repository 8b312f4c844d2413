"""Applications as records: JSON form, uniqueness, route prefixes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eagleray.spec.application import ApplicationSpec, BoundDeployment, CodeRef, check_route_prefix
from eagleray.spec.deployment import DeploymentSpec


def bound(name: str, ingress: bool = False, **more: Any) -> BoundDeployment:
    values = {"code": CodeRef(target="module:Class"), "version": "v", **more}
    return BoundDeployment(spec=DeploymentSpec(name=name), ingress=ingress, **values)


def test_json_restores_an_equal_record_with_the_options_that_were_given() -> None:
    spec = ApplicationSpec(
        name="app",
        route_prefix=None,
        deployments=[
            bound("a", ingress=True, children=["b"], init="d1"),
            BoundDeployment(
                spec=DeploymentSpec(
                    name="b",
                    num_replicas=1,
                    user_config={"x": float("inf")},
                    ray_actor_options={"num_gpus": 0.5},
                ),
                code=CodeRef(code="d2"),
                version="w",
                is_function=True,
            ),
        ],
        sys_path=["/somewhere"],
    )
    restored = ApplicationSpec.from_json(spec.to_json())
    assert restored == spec
    assert restored.deployments[1].spec.given == {"name", "num_replicas", "user_config", "ray_actor_options"}
    assert restored.ingress.name == "a"
    assert restored.blobs == {"d1", "d2"}


@pytest.mark.parametrize(
    "deployments",
    [[], [bound("a")], [bound("a", True), bound("b", True)], [bound("a", True), bound("a")]],
    ids=["none", "no ingress", "two ingresses", "same name"],
)
def test_a_graph_that_cannot_be_is_refused(deployments: list[BoundDeployment]) -> None:
    with pytest.raises(ValidationError):
        ApplicationSpec(name="app", deployments=deployments)


@pytest.mark.parametrize("name", ["", "a#b"])
def test_a_wrong_application_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        ApplicationSpec(name=name, deployments=[bound("a", True)])


@pytest.mark.parametrize("target,code", [("", ""), ("m:x", "digest")])
def test_code_is_either_a_path_or_a_blob(target: str, code: str) -> None:
    with pytest.raises(ValidationError):
        CodeRef(target=target, code=code)


@pytest.mark.parametrize("prefix", ["/", "/a", "/a/b", None])
def test_a_good_route_prefix_passes(prefix: str | None) -> None:
    assert check_route_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["", "a", "/a/", "//", "/{a}", "/a}"])
def test_a_bad_route_prefix_is_a_value_error(prefix: str) -> None:
    with pytest.raises(ValueError, match="route_prefix"):
        check_route_prefix(prefix)


def test_a_route_prefix_of_another_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="route_prefix must be a str or None, got 5"):
        check_route_prefix(5)  # type: ignore[arg-type]
