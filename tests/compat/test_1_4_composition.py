"""Surface 1.4: applications, nesting, sharing and renaming; section 12 check 27."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from tests.compat.impl import DeploymentHandle, Instance, differs, exceptions, serve


@serve.deployment
class Adder:
    def __init__(self, increment: int) -> None:
        self.increment = increment

    def __call__(self, value: int) -> int:
        return value + self.increment

    def who(self) -> str:
        return serve.get_replica_context().deployment


class Box:
    """A user's own container of handles."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside


def test_children_are_handles_wherever_they_are_bound(instance: Instance) -> None:
    @serve.deployment
    class Parent:
        def __init__(
            self, first: Any, many: list[Any], *, named: dict[str, Any], box: Any, pair: tuple[Any, Any]
        ):
            self.handles = [first, *many, named["x"], box.inside, *pair]

        async def __call__(self) -> tuple[bool, list[int]]:
            are_handles = all(isinstance(handle, DeploymentHandle) for handle in self.handles)
            return are_handles, [await handle.remote(0) for handle in self.handles]

    def adder(number: int) -> Any:
        return Adder.options(name=f"adder{number}").bind(number)

    app = instance.run(
        Parent.bind(
            adder(1),
            [adder(2), adder(3)],
            named={"x": adder(4)},
            box=Box(adder(5)),
            pair=(adder(6), adder(7)),
        )
    )
    assert app.call() == (True, [1, 2, 3, 4, 5, 6, 7])


def test_a_constructor_can_start_calls(instance: Instance) -> None:
    @serve.deployment
    class Parent:
        def __init__(self, child: Any) -> None:
            self.response = child.remote(1)

        async def __call__(self) -> int:
            return await self.response

    assert instance.run(Parent.bind(Adder.bind(41))).call() == 42


def test_handles_work_inside_an_async_constructor(instance: Instance) -> None:
    @serve.deployment
    class Parent:
        async def __init__(self, child: Any) -> None:
            self.value = await child.remote(1)

        def __call__(self) -> int:
            return self.value

    assert instance.run(Parent.bind(Adder.bind(41))).call() == 42


def test_the_same_application_bound_twice_is_one_deployment(instance: Instance) -> None:
    @serve.deployment
    class Middle:
        def __init__(self, child: Any) -> None:
            self.child = child

        async def __call__(self) -> str:
            return await self.child.who.remote()

    @serve.deployment
    class Top:
        def __init__(self, left: Any, right: Any) -> None:
            self.children = [left, right]

        async def __call__(self) -> list[str]:
            return [await child.remote() for child in self.children]

    shared = Adder.bind(1)
    top = Top.bind(Middle.options(name="left").bind(shared), Middle.options(name="right").bind(shared))
    app = instance.run(top)
    assert set(app.status().deployments) == {"Top", "left", "right", "Adder"}
    assert app.call() == ["Adder", "Adder"]


def test_different_applications_of_one_name_are_renamed(instance: Instance) -> None:
    @serve.deployment
    class Top:
        def __init__(self, *children: Any) -> None:
            self.children = children

        async def __call__(self) -> list[tuple[str, int]]:
            return [(await child.who.remote(), await child.remote(0)) for child in self.children]

    app = instance.run(Top.bind(Adder.bind(10), Adder.bind(20), Adder.bind(30)))
    assert set(app.status().deployments) == {"Top", "Adder", "Adder_1", "Adder_2"}
    assert app.call() == [("Adder", 10), ("Adder_1", 20), ("Adder_2", 30)]


def test_the_outermost_application_gets_the_http_traffic(instance: Instance) -> None:
    @serve.deployment
    class Outer:
        def __init__(self, child: Any) -> None:
            self.child = child

        async def __call__(self, request: Any) -> str:
            return f"outer {await self.child.remote(1)}"

    assert instance.run(Outer.bind(Adder.bind(1))).get().text == "outer 2"


def test_two_ingress_classes_in_one_application_are_refused(instance: Instance) -> None:
    @serve.deployment
    @serve.ingress(Starlette())
    class Inner:
        pass

    @serve.deployment
    @serve.ingress(Starlette())
    class Outer:
        def __init__(self, child: Any) -> None:
            self.child = child

    with pytest.raises(exceptions.RayServeException):
        instance.run(Outer.bind(Inner.bind()))


@differs("requests-travel")
def test_a_request_may_be_handed_on_to_another_deployment(instance: Instance) -> None:
    @serve.deployment
    class Model:
        async def __call__(self, request: Any) -> str:
            return f"{(await request.json())['text']} {request.query_params['n']}"

    @serve.deployment
    class Splitter:
        def __init__(self, model: DeploymentHandle) -> None:
            self.model = model

        async def __call__(self, request: Any) -> str:
            found: str = await self.model.remote(request)
            return found

    app = instance.run(Splitter.bind(Model.bind()))
    answer = app.http("POST", "?n=2", body=b'{"text": "hello"}')
    assert (answer.status, answer.text) == (200, "hello 2")
