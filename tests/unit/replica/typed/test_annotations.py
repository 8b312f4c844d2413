"""Which callables get typed arguments, in whatever way their annotations are written."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Union

import msgspec
import pytest
from pydantic import BaseModel
from starlette.requests import HTTPConnection, Request
from tests.unit.replica.typed.asking import ask, entry_of, request

from eagleray.replica.typed import UnusableAnnotation, typed_entry
from eagleray.serve.annotations import settle

if TYPE_CHECKING:
    from decimal import Decimal as Missing

    import starlette.requests as only_for_checkers

T = TypeVar("T")


class Item(BaseModel):
    a: int


def nothing() -> None: ...
def bare(request): ...  # type: ignore[no-untyped-def]
def any_of(request: Any) -> None: ...
def an_object(request: object) -> None: ...
def starlettes(request: Request) -> None: ...
def connection(request: HTTPConnection) -> None: ...
def for_checkers(request: only_for_checkers.Request) -> None: ...
def either(request: Request | str) -> None: ...
def either_old(request: Union[Request, str]) -> None: ...  # noqa: UP007
def maybe(request: Request | None = None) -> None: ...
def many(requests: list[Request]) -> None: ...
def generic(value: T) -> None: ...
def variadic(*args: int) -> None: ...
def named(**kwargs: int) -> None: ...
def first_decides(request: Request, item: Item) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        nothing, bare, any_of, an_object, starlettes, connection, for_checkers, either, either_old, maybe, many,
        generic, variadic, named, first_decides, dict.fromkeys, print,
    ],
    ids=lambda function: function.__name__,
)  # fmt: skip
def test_these_get_the_request(function: Any) -> None:
    assert typed_entry(function) is None


def test_strings_are_resolved() -> None:
    def typed(item: Item) -> Any:
        return item

    assert ask(typed, json_body={"a": 1}) == Item(a=1)


def test_names_of_the_class_body_and_of_enclosing_functions_are_found() -> None:
    class Local(BaseModel):
        b: int

    class Service:
        class Inner(BaseModel):
            c: int

        def list(self) -> None:
            """Has the name of a type."""

        def in_class(self, inner: Inner, numbers: list[int]) -> Any:
            return inner.c, numbers

        def enclosing(self, local: Local) -> Any:
            return isinstance(local, Local)

    assert ask(Service().in_class, json_body={"inner": {"c": 1}, "numbers": [2]}) == (1, [2])
    assert ask(Service().enclosing, json_body={"b": 1}) is True


def test_callables_of_every_kind() -> None:
    class Called:
        def __call__(self, item: Item) -> Any:
            return item.a

        @classmethod
        def of_class(cls, item: Item) -> Any:
            return item.a

        @staticmethod
        def static(item: Item) -> Any:
            return item.a

    def two(item: Item, number: int) -> Any:
        return item.a + number

    @functools.wraps(two)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return two(*args, **kwargs)

    called = Called()
    for function in (called, called.__call__, Called.of_class, called.static, functools.partial(called)):
        assert ask(function, json_body={"a": 5}) == 5
    assert ask(decorated, json_body={"item": {"a": 1}, "number": 2}) == 3
    assert ask(functools.partial(two, number=9), json_body={"item": {"a": 1}}) == 10


def unresolvable(item: Missing) -> None: ...
def half(item: Item, number: Missing) -> None: ...
def strange(item: functools) -> None: ...  # type: ignore[valid-type]
def words(item: "not python") -> None: ...  # type: ignore # noqa: F821, UP037


class Unknown:
    pass


def unknown(value: Unknown) -> None: ...
def unknown_in_list(value: list[Unknown]) -> None: ...


@pytest.mark.parametrize("function", [unresolvable, half, strange, words, unknown, unknown_in_list])
def test_what_cannot_be_used_says_why(function: Any) -> None:
    name = "number" if function is half else next(iter(function.__annotations__))
    with pytest.raises(UnusableAnnotation, match=f"'{name}'"):
        typed_entry(function)


def test_only_the_first_annotation_is_read_where_it_is_the_request() -> None:
    def mixed(request: Request, number: Missing) -> None: ...

    assert typed_entry(mixed) is None


def test_an_unannotated_parameter_beside_typed_ones_takes_anything() -> None:
    def mixed(item: Item, extra=None) -> Any:  # type: ignore[no-untyped-def]
        return item.a, extra

    assert ask(mixed, json_body={"item": {"a": 1}, "extra": [1, None]}) == (1, [1, None])


def test_batched_parameters_are_of_the_item() -> None:
    def batched(items: list[Item], factors: list[int]) -> Any:
        return items, factors

    def requests(items: list[Request]) -> None: ...
    def untyped(items: list[Any]) -> None: ...
    def plain(items: list) -> None: ...  # type: ignore[type-arg]

    typed = entry_of(batched, batched=True)
    assert typed(request(b'{"items": {"a": 1}, "factors": 2}')) == (Item(a=1), 2)
    assert typed_entry(requests, batched=True) is None
    assert typed_entry(untyped, batched=True) is None
    with pytest.raises(UnusableAnnotation, match="items"):
        typed_entry(plain, batched=True)


def test_code_that_travels_by_value_takes_its_types_along() -> None:
    class Base:
        def __call__(self, item: Item, other: Missing, request: Request) -> Item:
            raise NotImplementedError

    class Derived(Base): ...

    settle(Derived)
    assert Base.__call__.__annotations__ == {
        "item": Item,
        "other": "Missing",
        "request": Request,
        "return": "Item",
    }

    def function(item: Item) -> None: ...

    settle(function)
    assert function.__annotations__ == {"item": Item, "return": "None"}
    settle(print)


class Priced(TypedDict):
    price: Missing


class Packed(msgspec.Struct):
    price: Missing


def priced(item: Priced) -> None: ...
def packed(item: Packed) -> None: ...


@pytest.mark.parametrize(("function", "kind"), [(priced, "Priced"), (packed, "Packed")])
def test_a_field_that_cannot_be_resolved_is_named_with_its_class(function: Any, kind: str) -> None:
    with pytest.raises(UnusableAnnotation, match=f"field 'price' of class '{kind}' cannot be resolved"):
        typed_entry(function)
