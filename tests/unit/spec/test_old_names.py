"""Names that articles still show: they work, and the warning stands at the user's line and names today's form."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from eagleray import serve
from eagleray.base.errors import ConfigError
from eagleray.spec.application import ApplicationSpec, BoundDeployment, CodeRef
from eagleray.spec.autoscaling import AutoscalingConfig
from eagleray.spec.config import read_config
from eagleray.spec.deployment import DeploymentSpec
from eagleray.spec.options import HTTPOptions


@serve.deployment
class Model:
    pass


USES: dict[str, Callable[[], Any]] = {
    "use max_ongoing_requests": lambda: serve.deployment(max_concurrent_queries=3)(Model.func_or_class),
    "max_concurrent_queries is deprecated": lambda: Model.options(max_concurrent_queries=3),
    "EAGLERAY_SHARED_MEMORY_MB": lambda: Model.options(ray_actor_options={"object_store_memory": 1}),
    "use max_ongoing_requests and max_queued_requests": lambda: HTTPOptions.model_validate(
        {"max_concurrent_queries": 100, "root_path": "/api/v1", "request_timeout_s": 300}
    ),
    "use target_ongoing_requests": lambda: AutoscalingConfig.model_validate(
        {"target_num_ongoing_requests_per_replica": 3}
    ),
    "target_num_ongoing_requests_per_replica is deprecated": lambda: Model.options(
        num_replicas="auto", autoscaling_config={"target_num_ongoing_requests_per_replica": 3}
    ),
    "use upscaling_factor and downscaling_factor": lambda: AutoscalingConfig(smoothing_factor=0.5),
    "use upscaling_factor$": lambda: AutoscalingConfig(upscale_smoothing_factor=0.5),
    "downscale_smoothing_factor .* use downscaling_factor": lambda: Model.options(
        autoscaling_config={"downscale_smoothing_factor": 0.5}
    ),
}


@pytest.mark.parametrize("text", USES)
def test_an_old_name_works_and_says_where_it_stands(text: str) -> None:
    with pytest.warns(DeprecationWarning, match=text.rstrip("$")) as caught:
        USES[text]()
    assert {one.filename for one in caught} == {__file__}


def test_what_they_mean() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deployment = Model.options(
            max_concurrent_queries=3, ray_actor_options={"object_store_memory": 1, "num_cpus": 2}
        )
        http = HTTPOptions.model_validate({"max_concurrent_queries": 100, "root_path": "/api/v1"})
    assert deployment.max_ongoing_requests == 3 and deployment.ray_actor_options == {"num_cpus": 2}
    assert http.root_path == "/api/v1" and "max_concurrent_queries" not in http.model_dump()


def test_the_old_target_is_the_new_one() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in ({"num_replicas": "auto"}, {}):
            options = {**number, "autoscaling_config": {"target_num_ongoing_requests_per_replica": 7}}
            config = Model.options(**options).spec.autoscaling_config
            assert config is not None and config.target_ongoing_requests == 7
        with pytest.raises(ValueError, match="give one of them"):
            AutoscalingConfig.model_validate(
                {"target_num_ongoing_requests_per_replica": 3, "target_ongoing_requests": 3}
            )


def test_a_config_file_may_have_the_old_target() -> None:
    scaling = {"target_num_ongoing_requests_per_replica": 3}
    deployments = [{"name": "D", "autoscaling_config": scaling}]
    read = read_config({"applications": [{"import_path": "a:b", "deployments": deployments}]}, "file")
    assert any("use target_ongoing_requests" in one for one in read.warnings)
    found = read.schema.applications[0].deployments[0].autoscaling_config
    assert found is not None and found.target_ongoing_requests == 3


@pytest.mark.parametrize("nonsense", [5, "target_num_ongoing_requests_per_replica", [1], True])
def test_nonsense_in_a_config_file_is_a_mistake_and_no_crash(nonsense: Any) -> None:
    deployments = [{"name": "D", "autoscaling_config": nonsense}]
    with pytest.raises(ConfigError, match="autoscaling_config"):
        read_config({"applications": [{"import_path": "a:b", "deployments": deployments}]}, "file")


def test_old_and_new_name_together_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="give one of them"):
        Model.options(max_concurrent_queries=3, max_ongoing_requests=3)


@pytest.mark.filterwarnings("error")
def test_whoever_reads_a_spec_from_the_wire_is_not_warned() -> None:
    with pytest.warns(DeprecationWarning):
        spec = DeploymentSpec(name="D", autoscaling_config=AutoscalingConfig(smoothing_factor=0.5))
    bound = BoundDeployment(spec=spec, code=CodeRef(target="m:D"), ingress=True, version="1")
    data = ApplicationSpec(name="a", route_prefix="/", deployments=[bound]).to_json()
    (read,) = ApplicationSpec.from_json(data).deployments
    assert read.spec.autoscaling_config is not None and read.spec.autoscaling_config.up_factor == 0.5
