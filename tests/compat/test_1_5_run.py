"""Surface 1.5: `serve.run`, `run_many`."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.compat.impl import DeploymentHandle, Instance, differs, exceptions, script, serve


@serve.deployment
class Hello:
    def __call__(self, request: Any = None) -> str:
        return "hello"

    def pid(self) -> int:
        return os.getpid()


def test_run_returns_the_handle_of_the_ingress(instance: Instance) -> None:
    app = instance.run(Hello.bind())
    assert isinstance(app.handle, DeploymentHandle)
    assert (app.handle.deployment_name, app.handle.app_name) == ("Hello", app.name)
    assert app.call() == "hello"
    assert app.status().status == "RUNNING"


@pytest.mark.parametrize("target", [Hello, 1, "module:app", None])
def test_only_an_application_can_be_run(instance: Instance, target: Any) -> None:
    with pytest.raises(TypeError):
        serve.run(target, name="bad", route_prefix=None)


def test_the_name_may_not_be_empty(instance: Instance) -> None:
    with pytest.raises(exceptions.RayServeException):
        serve.run(Hello.bind(), name="", route_prefix=None)


@pytest.mark.parametrize("prefix", ["x", "/x/", "/{x}"])
def test_bad_route_prefixes_are_refused(instance: Instance, prefix: str) -> None:
    with pytest.raises(ValueError):
        serve.run(Hello.bind(), name="bad", route_prefix=prefix)


def test_unknown_arguments_are_type_errors(instance: Instance) -> None:
    with pytest.raises(TypeError):
        serve.run(Hello.bind(), host="127.0.0.1", port=1)


def test_a_prefix_belongs_to_one_application(instance: Instance) -> None:
    first = instance.run(Hello.bind(), name="first", route_prefix="/taken")
    with pytest.raises(Exception) as caught:
        instance.run(Hello.bind(), name="second", route_prefix="/taken")
    assert 'Prefix /taken is being used by application "first"' in str(caught.value)
    assert 'Failed to deploy application "second"' in str(caught.value)
    assert first.get().text == "hello"


def test_without_a_route_prefix_only_the_handle_reaches_it(instance: Instance) -> None:
    app = instance.run(Hello.bind(), route_prefix=None)
    assert app.call() == "hello"
    assert app.name not in instance.get("/-/routes").json().values()


def test_a_redeploy_removes_deployments_that_vanished(instance: Instance) -> None:
    @serve.deployment
    class Parent:
        def __init__(self, child: Any) -> None:
            self.child = child

        async def __call__(self) -> str:
            return await self.child.remote()

    bystander = instance.run(Hello.bind())
    app = instance.run(Parent.bind(Hello.bind()), name="changing")
    assert set(app.status().deployments) == {"Parent", "Hello"}
    app = instance.run(Hello.bind(), name="changing")
    assert app.call() == "hello"
    assert "Parent" not in app.status().deployments
    assert bystander.call() == "hello"


def test_every_run_replaces_the_replicas(instance: Instance) -> None:
    app = instance.run(Hello.bind(), name="again")
    first = app.handle.pid.remote().result(timeout_s=20)
    app = instance.run(Hello.bind(), name="again")
    assert app.handle.pid.remote().result(timeout_s=20) != first


def test_a_redeploy_can_move_the_route(instance: Instance) -> None:
    instance.run(Hello.bind(), name="moving", route_prefix="/old")
    assert instance.get("/old").status == 200
    instance.run(Hello.bind(), name="moving", route_prefix="/new")
    assert instance.get("/new").status == 200
    assert instance.get("/old").status == 404


def test_a_failing_constructor_fails_the_run_with_its_traceback(instance: Instance) -> None:
    @serve.deployment(max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise ZeroDivisionError("no such model")

    with pytest.raises(RuntimeError, match="Deploying application broken failed:"):
        instance.run(Broken.bind(), name="broken")
    overview = serve.status().applications["broken"]
    assert overview.status == "DEPLOY_FAILED"
    assert "no such model" in overview.deployments["Broken"].message


@differs("deploy-error-names-the-cause")
def test_the_error_of_a_failed_run_names_the_cause(instance: Instance) -> None:
    @serve.deployment(max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise ZeroDivisionError("no such model")

    with pytest.raises(RuntimeError, match="no such model"):
        instance.run(Broken.bind())


def test_run_many_returns_one_handle_for_each_target(instance: Instance) -> None:
    targets = [
        serve.RunTarget(Hello.bind(), name="many1", route_prefix="/many1"),
        serve.RunTarget(Hello.options(name="Other").bind(), name="many2", route_prefix=None),
    ]
    handles = serve.run_many(targets)
    assert [handle.app_name for handle in handles] == ["many1", "many2"]
    assert [handle.deployment_name for handle in handles] == ["Hello", "Other"]
    assert [handle.remote().result(timeout_s=20) for handle in handles] == ["hello", "hello"]
    assert instance.get("/many1").text == "hello"


def test_run_many_needs_a_target(instance: Instance) -> None:
    with pytest.raises(ValueError):
        serve.run_many([])


@differs("arguments-of-other-types")
def test_arguments_of_other_types_are_type_errors(instance: Instance) -> None:
    with pytest.raises(TypeError, match="RunTarget"):
        serve.run_many([Hello.bind()])
    with pytest.raises(TypeError, match="name of an application"):
        serve.delete(5)
    with pytest.raises(TypeError, match="route_prefix"):
        serve.run(Hello.bind(), name="bad", route_prefix=5)


def test_run_many_can_return_at_once(instance: Instance) -> None:
    targets = [serve.RunTarget(Hello.bind(), name="soon", route_prefix="/soon")]
    [handle] = serve.run_many(
        targets, wait_for_ingress_deployment_creation=True, wait_for_applications_running=False
    )
    assert handle.remote().result(timeout_s=20) == "hello"


def test_run_target_has_the_defaults_of_run() -> None:
    target = serve.RunTarget(Hello.bind())
    assert (target.name, target.route_prefix, target.logging_config) == ("default", "/", None)
    with pytest.raises(AttributeError):
        target.name = "other"


def test_a_blocking_run_ends_with_ctrl_c() -> None:
    with script("tests.compat.blocking") as (app, output):
        assert app.get().text == "hello from __main__"
    assert "interrupted" in output
    assert output[-1] == "exit code 0"
