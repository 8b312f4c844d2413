"""From bound deployments to an ApplicationSpec: children wherever they stand, names, code by path or by value."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from eagleray import serve
from eagleray.base.errors import EaglerayError
from eagleray.serve.graph import build_application, import_target
from eagleray.serve.handle import DeploymentHandle
from eagleray.spec.application import ApplicationSpec
from eagleray.wire import codec


@serve.deployment
class Parent:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


@serve.deployment
class Leaf:
    """Takes anything."""

    def __init__(self, *args: Any) -> None:
        self.args = args


class Box:
    """An object of the user's that happens to hold an application."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside


def build(application: serve.Application, **more: Any) -> tuple[ApplicationSpec, dict[str, bytes]]:
    options = {"name": "app", "route_prefix": "/", "make_version": lambda *_: "v", **more}
    return build_application(application, **options)


def arguments(spec: ApplicationSpec, blobs: dict[str, bytes], name: str) -> tuple[Any, Any]:
    (one,) = [deployment for deployment in spec.deployments if deployment.name == name]
    args, kwargs = codec.load_code(blobs[one.init])
    return args, kwargs


def test_children_become_handles_wherever_they_stand() -> None:
    first, second, third, fourth = (Leaf.options(name=name).bind() for name in ("w", "x", "y", "z"))
    spec, blobs = build(Parent.bind(first, [second, {"k": (third,)}], box=Box(fourth)))
    args, kwargs = arguments(spec, blobs, "Parent")
    handles = [args[0], args[1][0], args[1][1]["k"][0], kwargs["box"].inside]
    assert [(handle.deployment_name, handle.app_name) for handle in handles] == [
        (name, "app") for name in ("w", "x", "y", "z")
    ]
    assert all(type(handle) is DeploymentHandle for handle in handles)
    assert [deployment.name for deployment in spec.deployments] == ["Parent", "w", "x", "y", "z"]
    assert spec.ingress.name == "Parent"
    assert spec.ingress.children == ["w", "x", "y", "z"]
    assert not any(deployment.children for deployment in spec.deployments[1:])


def test_the_same_application_twice_is_one_deployment() -> None:
    shared = Leaf.bind()
    spec, blobs = build(Parent.bind(shared, Parent.options(name="Inner").bind(shared), shared))
    assert [deployment.name for deployment in spec.deployments] == ["Parent", "Leaf", "Inner"]
    assert spec.deployments[2].children == ["Leaf"]
    assert arguments(spec, blobs, "Inner")[0][0].deployment_name == "Leaf"


def test_different_applications_of_one_name_are_renamed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="ray.serve"):
        spec, blobs = build(Parent.bind(Leaf.bind(1), Leaf.bind(2), Leaf.bind(3)))
    assert [deployment.name for deployment in spec.deployments] == ["Parent", "Leaf", "Leaf_1", "Leaf_2"]
    assert [handle.deployment_name for handle in arguments(spec, blobs, "Parent")[0]] == [
        "Leaf",
        "Leaf_1",
        "Leaf_2",
    ]
    assert arguments(spec, blobs, "Leaf_1")[0] == (2,)
    assert "Leaf_2" in caplog.text


def test_blobs_are_named_by_content_and_all_of_them_are_named() -> None:
    spec, blobs = build(Parent.bind(Leaf.bind(1), Leaf.options(name="other").bind(1)))
    assert spec.blobs == set(blobs)
    assert spec.deployments[1].init == spec.deployments[2].init
    assert build(Leaf.bind())[1] == {}


def test_code_travels_by_path_if_it_can_be_imported() -> None:
    assert import_target(Leaf.func_or_class) == f"{__name__}:Leaf"
    assert import_target(Box) == f"{__name__}:Box"

    class Local:
        """Cannot be imported."""

    assert import_target(Local) == ""
    spec, blobs = build(serve.deployment(Local).bind())
    assert spec.ingress.code.target == ""
    assert codec.load_code(blobs[spec.ingress.code.code]).__name__ == "Local"


def test_a_class_whose_name_means_something_else_now_travels_by_value() -> None:
    impostor = type("Leaf", (), {"__module__": __name__, "__qualname__": "Leaf"})
    assert import_target(impostor) == ""


def test_a_class_of_the_script_travels_by_value() -> None:
    scripted = type("Scripted", (), {"__module__": "__main__"})
    assert import_target(scripted) == ""


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(
        EaglerayError, match=r"Deployment 'Parent'.*argument 0.*\['model'\]\.inside.* _thread.lock"
    ):
        build(Parent.bind({"model": Box(__import__("threading").Lock())}))


def test_two_ingress_classes_are_refused() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Answers nothing."""

    inner = serve.deployment(name="inner")(serve.ingress(app)())
    outer = serve.deployment(name="outer")(
        serve.ingress(app)(type("Outer", (), {"__init__": lambda s, x: None}))
    )
    with pytest.raises(EaglerayError, match="multiple"):
        build(outer.bind(inner.bind()))


def test_functions_and_versions_are_recorded() -> None:
    def plain() -> None:
        """Does nothing."""

    spec, _ = build(
        serve.deployment(plain).bind(), make_version=lambda deployment, init: f"{deployment.name}/{init}"
    )
    assert spec.ingress.is_function
    assert spec.ingress.version == "plain/"
