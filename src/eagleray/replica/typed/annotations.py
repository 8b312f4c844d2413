"""What the annotations of an entry mean: Starlette's request, one item of a batch, or something that can be decoded.

Types that pydantic does not know (arrays, msgspec's Structs, TypedDict of older Pythons) are replaced by annotations
that it does.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from inspect import Parameter
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
import typing_extensions
from starlette.requests import HTTPConnection

from eagleray.replica.typed.arrays import ArrayType, array_dtype
from eagleray.replica.typed.structs import StructType
from eagleray.serve.annotations import UnusableAnnotation, field_type, resolve

_SEQUENCES = (list, tuple, set, frozenset, Sequence, Collection, Iterable)


# ---- meaning ---------------------------------------------------------------------------------------------------


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters that a caller may name, with their annotations as they were written."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return []
    return [one for one in parameters if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]


def type_of(parameter: Parameter, function: Callable[..., Any]) -> Any:
    """The annotation as a type; Parameter.empty where there is none. Raises UnusableAnnotation."""
    annotation = parameter.annotation
    if isinstance(annotation, str) and annotation.rpartition(".")[2] == "Request":
        # Usually imported for type checkers only, and there is but one that a server would give.
        return HTTPConnection
    if annotation is Parameter.empty:
        return annotation
    return resolve(annotation, parameter.name, function)


def result_of(function: Callable[..., Any]) -> Any:
    """The type that is returned; Parameter.empty where nothing is known of it."""
    try:
        annotation = inspect.signature(function).return_annotation
        return annotation if annotation is Parameter.empty else resolve(annotation, "return", function)
    except (TypeError, ValueError, UnusableAnnotation):
        return Parameter.empty


def wants_request(annotation: Any) -> bool:
    """Whether a parameter is to get Starlette's request: it says so, or it says nothing."""
    if annotation in (Parameter.empty, Any, object) or isinstance(annotation, TypeVar):
        return True
    if get_origin(annotation) in (Union, types.UnionType):
        return any(wants_request(one) for one in get_args(annotation) if one is not type(None))
    return mentions_request(annotation)


def mentions_request(annotation: Any) -> bool:
    """Whether Starlette's request is in it by name."""
    if inspect.isclass(annotation) and not get_args(annotation):
        return issubclass(annotation, HTTPConnection)
    return any(mentions_request(one) for one in get_args(annotation))


def item_of(annotation: Any) -> Any:
    """The type of one item of a batch: T of `list[T]` and its like; Parameter.empty where there is none."""
    annotation = bare(annotation)
    if get_origin(annotation) in _SEQUENCES and get_args(annotation):
        return get_args(annotation)[0]
    return Parameter.empty


def bare(annotation: Any) -> Any:
    """The annotation without `Annotated` and without `None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        if get_origin(annotation) in (Union, types.UnionType):
            others = [one for one in get_args(annotation) if one is not type(None)]
            if len(others) == 1:
                annotation = others[0]
                continue
        return annotation


def is_sequence(annotation: Any) -> bool:
    """Whether a name of the query string may be given several times for it."""
    annotation = bare(annotation)
    return annotation in _SEQUENCES or get_origin(annotation) in _SEQUENCES


def is_struct(annotation: Any) -> bool:
    """Whether it is one of msgspec's Structs."""
    return inspect.isclass(annotation) and not get_args(annotation) and issubclass(annotation, msgspec.Struct)


# ---- for pydantic ----------------------------------------------------------------------------------------------


def readable(annotation: Any, _within: tuple[Any, ...] = ()) -> Any:
    """The annotation with everything that pydantic does not know replaced. Raises UnusableAnnotation."""
    found, dtype = array_dtype(annotation)
    if found:
        return Annotated[Any, ArrayType(dtype)]
    if is_struct(annotation):
        return Annotated[Any, StructType(annotation)]
    if sys.version_info < (3, 12) and _is_typing_typed_dict(annotation):
        return _newer_typed_dict(annotation, _within)
    origin, args = get_origin(annotation), get_args(annotation)
    if not args or origin is typing.Literal:
        return annotation
    if origin is Annotated:
        inner = readable(args[0], _within)
        return annotation if inner is args[0] else Annotated[(inner, *args[1:])]
    new = tuple(readable(one, _within) for one in args)
    if all(one is old for one, old in zip(new, args, strict=True)):
        return annotation
    return Union[new] if origin in (Union, types.UnionType) else origin[new]  # noqa: UP007 - a tuple of types


def _is_typing_typed_dict(annotation: Any) -> bool:
    return typing.is_typeddict(annotation) and type(annotation).__module__ == "typing"


def _newer_typed_dict(kind: Any, within: tuple[Any, ...]) -> Any:
    """pydantic refuses `typing.TypedDict` before Python 3.12; this is the same class of typing_extensions."""
    if kind in within:
        raise UnusableAnnotation(
            f"{kind.__name__} contains itself, which needs `typing_extensions.TypedDict` before Python 3.12"
        )
    fields: dict[str, Any] = {}
    for name, written in kind.__annotations__.items():
        hint = field_type(kind, name, written)
        mark: Any = typing.Required if name in kind.__required_keys__ else typing.NotRequired
        if get_origin(hint) in (typing.Required, typing.NotRequired):
            # While the class was made this may have been a string, which nobody looked into.
            mark, hint = get_origin(hint), get_args(hint)[0]
        fields[name] = mark[readable(hint, (*within, kind))]
    made = typing_extensions.TypedDict(kind.__name__, fields)  # type: ignore[misc]
    made.__doc__ = kind.__doc__
    made.__module__ = kind.__module__
    return made
