"""Annotations of user code as types, also where they are strings.

Each is resolved by itself, so that one that cannot be, an import under TYPE_CHECKING say, does not hide the others.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from typing import Any


class UnusableAnnotation(Exception):
    """An annotation that cannot be resolved, or that nothing can be decoded to; the message says why."""


def resolve(annotation: Any, name: str, function: Any) -> Any:
    """The annotation of parameter `name` of `function` as a type. Raises UnusableAnnotation."""
    plain = plain_function(function)
    closure = _closure_of(plain)
    members = _members_of(type(getattr(function, "__self__", function)))
    problem: Exception | None = None
    # The class body comes last: its methods may have the names of types.
    for local in (closure, {**members, **closure}):
        try:
            return _evaluate(annotation, getattr(plain, "__globals__", {}), local)
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            problem = error
    raise UnusableAnnotation(f"the annotation {annotation!r} of '{name}' cannot be resolved ({problem})")


def settle(func_or_class: Any) -> None:
    """Replaces strings by types where HTTP requests come in, in code that is about to travel by value.

    Names that only annotations use do not travel with it, so that the other side could not resolve them.
    """
    if not inspect.isclass(func_or_class):
        _settle_function(func_or_class)
        return
    for base in func_or_class.__mro__[:-1]:
        if base.__module__ == func_or_class.__module__:
            for name in ("__call__", "predict"):
                if name in vars(base):
                    _settle_function(vars(base)[name])


def _settle_function(function: Any) -> None:
    plain = plain_function(function)
    written = getattr(plain, "__annotations__", {})
    found = {}
    for name, annotation in written.items():
        if isinstance(annotation, str) and name != "return":
            try:
                found[name] = resolve(annotation, name, plain)
            except UnusableAnnotation:
                pass  # the replica will say so
    if found:
        plain.__annotations__ = {**written, **found}
    seen: set[int] = set()
    for annotation in {**written, **found}.values():
        _settle_fields(annotation, plain, seen)


def _settle_fields(annotation: Any, function: Any, seen: set[int]) -> None:
    """Does the same for the fields of the classes in `annotation` that were defined beside `function`."""
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    for part in typing.get_args(annotation):
        _settle_fields(part, function, seen)
    if not inspect.isclass(annotation) or annotation.__module__ != function.__module__:
        return
    for base in annotation.__mro__[:-1]:
        written = vars(base).get("__annotations__")
        if base.__module__ != function.__module__ or not isinstance(written, dict):
            continue
        members = vars(base).get("__dataclass_fields__", {})
        for name, hint in list(written.items()):
            try:
                found = field_type(base, name, hint, _closure_of(function))
            except UnusableAnnotation:
                continue  # the replica will say so
            # In place: a NamedTuple has the same dictionary in two places.
            written[name] = found
            if name in members:
                members[name].type = found
            _settle_fields(found, function, seen)


def field_type(kind: type, name: str, hint: Any, local: dict[str, Any] | None = None) -> Any:
    """The annotation of field `name` of class `kind` as a type. Raises UnusableAnnotation, which names both."""
    holder = type(kind.__name__, (), {"__annotations__": {name: hint}, "__module__": kind.__module__})
    names = getattr(sys.modules.get(kind.__module__), "__dict__", {})
    try:
        return typing.get_type_hints(holder, names, local or {}, include_extras=True)[name]
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise UnusableAnnotation(
            f"field '{name}' of class '{kind.__name__}' cannot be resolved ({error})"
        ) from error


def plain_function(function: Any) -> Any:
    """The function with the code: behind partials, decorators, methods and objects that are called."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not hasattr(function, "__wrapped__"):
        function = type(function).__call__
    return inspect.unwrap(getattr(function, "__func__", function))


def _evaluate(annotation: Any, names: dict[str, Any], local: dict[str, Any]) -> Any:
    def holder() -> None:
        """Carries one annotation into `get_type_hints`, which takes functions only."""

    holder.__annotations__ = {"value": annotation}
    return typing.get_type_hints(holder, names, local, include_extras=True)["value"]


def _closure_of(function: Any) -> dict[str, Any]:
    """Variables of enclosing functions that `function` uses."""
    cells = getattr(function, "__closure__", None)
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True) if cells else ():
        try:
            found[name] = cell.cell_contents
        except ValueError:
            pass  # not assigned yet
    return found


def _members_of(owner: type) -> dict[str, Any]:
    """Names of the class body, where a user may have put the types of its methods."""
    found: dict[str, Any] = {}
    for base in reversed(owner.__mro__[:-1]):
        found.update(vars(base))
    return found
