"""The decorator, Deployment and Application: what they accept, refuse and keep."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import pytest

from eagleray import serve
from eagleray.base.errors import EaglerayError
from eagleray.serve.deployment import DeploymentOptions
from eagleray.spec.deployment import DeploymentSpec


@serve.deployment
class Bare:
    def __init__(self, *args: Any) -> None:
        self.args = args


@serve.deployment(name="named", num_replicas=2)
def function() -> None:
    """A function deployment."""


def test_the_decorator_works_bare_with_options_and_as_a_call() -> None:
    assert (Bare.name, Bare.num_replicas) == ("Bare", 1)
    assert (function.name, function.num_replicas) == ("named", 2)
    called = serve.deployment(Bare.func_or_class)
    assert called == Bare
    assert serve.deployment(max_ongoing_requests=7)(Bare.func_or_class).max_ongoing_requests == 7


def test_options_are_the_specs_and_old_names() -> None:
    assert set(DeploymentOptions.__annotations__) == {
        *DeploymentSpec.model_fields,
        "version",
        "max_concurrent_queries",
    }


def test_wrong_options_are_reported_where_they_are_written() -> None:
    with pytest.raises(ValueError):
        serve.deployment(num_replicas=0)
    with pytest.raises(ValueError, match="internal"):
        serve.deployment(version="1")
    with pytest.raises(TypeError, match="unexpected keyword argument 'route_prefix'"):
        Bare.options(route_prefix="/")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="name must be a str"):
        serve.deployment(name=3)(Bare.func_or_class)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="ray_actor_options must be a dict"):
        serve.deployment(ray_actor_options="gpu")  # type: ignore[call-overload]


@pytest.mark.parametrize("thing", [3, "text", Bare, len])
def test_only_classes_and_functions_can_be_deployed(thing: Any) -> None:
    with pytest.raises(TypeError):
        serve.deployment(thing)


def test_a_deployment_is_never_called() -> None:
    with pytest.raises(RuntimeError):
        Bare()
    with pytest.raises(RuntimeError):
        serve.Deployment("name", None)
    with pytest.raises(TypeError):
        serve.Deployment()  # type: ignore[call-arg]


def test_options_make_a_copy_that_keeps_what_was_given() -> None:
    changed = function.options(max_ongoing_requests=9, rolling_update_percentage=0.5)
    assert (changed.name, changed.num_replicas, changed.max_ongoing_requests) == ("named", 2, 9)
    assert function.max_ongoing_requests == 5
    assert changed.spec.given == {"name", "num_replicas", "max_ongoing_requests", "rolling_update_percentage"}
    assert changed != function
    other = Bare.options(func_or_class=function.func_or_class)
    assert (other.func_or_class, other.name) == (function.func_or_class, "Bare")


def test_properties_of_an_unbound_deployment() -> None:
    deployment = Bare.options(ray_actor_options={"num_gpus": 1})
    assert deployment.ray_actor_options == {"num_cpus": 1.0, "num_gpus": 1.0}
    assert (deployment.init_args, deployment.init_kwargs, deployment.version) == ((), {}, None)
    assert repr(deployment) == "Deployment(name=Bare)"
    for gone in ("url", "route_prefix", "prev_version"):
        assert not hasattr(deployment, gone)


def test_a_logging_config_can_be_set_afterwards() -> None:
    deployment = Bare.options()
    deployment.set_logging_config({"log_level": "DEBUG"})
    assert deployment.logging_config is not None and deployment.logging_config.log_level == "DEBUG"
    assert Bare.logging_config is None


def test_bind_refuses_arguments_for_functions() -> None:
    assert isinstance(function.bind(), serve.Application)
    with pytest.raises(ValueError, match="function"):
        function.bind(1)


def test_a_deployment_is_pickled_with_its_options_an_application_is_not() -> None:
    copy = pickle.loads(cloudpickle.dumps(function))
    assert copy.spec == function.spec
    assert copy.spec.given == function.spec.given
    with pytest.raises(EaglerayError, match="cannot be pickled"):
        pickle.dumps(Bare.bind())


def test_the_package_exports_what_it_names_and_no_more() -> None:
    for name in serve.__all__:
        assert getattr(serve, name) is not None
    for later in ("AutoscalingConfig", "gRPCOptions"):
        with pytest.raises(AttributeError):
            getattr(serve, later)


def test_target_that_no_replica_can_reach_is_told(caplog: pytest.LogCaptureFixture) -> None:
    serve.deployment(max_ongoing_requests=2, autoscaling_config={"target_ongoing_requests": 3})
    assert "Autoscaling will never happen" in caplog.text


def test_newer_wish_counts_between_a_number_and_autoscaling() -> None:
    @serve.deployment(autoscaling_config={"max_replicas": 3})
    def scales() -> None: ...

    fixed = scales.options(num_replicas=2)
    assert fixed.spec.autoscaling_config is None and fixed.num_replicas == 2
    again = fixed.options(autoscaling_config={"max_replicas": 4}).spec.autoscaling_config
    assert again is not None and again.max_replicas == 4
    auto = fixed.options(num_replicas="auto").spec.autoscaling_config
    assert auto is not None and auto.max_replicas == 100
