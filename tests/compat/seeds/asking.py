"""What to send to a program: a request that its code is seen to expect, with values that its models know."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from tests.compat.seeds.names import Definition, methods

_ROW = [5.1, 3.5, 1.4, 0.2]
_ROWS = {"features", "raw_data", "processed_data", "data", "input", "inputs", "values"}
_TEXTS = {"query": "How old is the sun?", "question": "How old is the sun?"}
_TEXT = "the black cat sees a small house"
_VERBS = {"get", "post", "put", "patch", "delete"}


@dataclass(frozen=True)
class Ask:
    """`path` is below the route prefix of the application `app` ("": whichever there is). A `body` of None is none."""

    path: str
    method: str
    body: Any
    app: str = ""


def value_for(name: str) -> Any:
    """A value for a member or parameter of this name."""
    return _ROW if name in _ROWS else _TEXTS.get(name, _TEXT)


def asks(ingress: Definition, others: list[Definition], app: str = "") -> list[Ask]:
    """For an ingress: one request for each route that it declares, or one for its `__call__`.

    Its own `__call__` may hand the request on, so members that `others` take from theirs are in the body, too.
    """
    if not isinstance(ingress, ast.ClassDef):
        return [Ask("", "POST", _body([ingress]), app)]
    routes = [
        Ask(path, verb.upper(), None if verb in {"get", "delete"} else _body([method]), app)
        for method in methods(ingress)
        for verb, path in _routes(method)
    ]
    entries = [
        method for one in (ingress, *others) if isinstance(one, ast.ClassDef) for method in methods(one)
    ]
    own = [method for method in methods(ingress) if method.name == "__call__"]
    return routes or [Ask("", "POST", _body(own, entries), app)]


def _routes(method: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[str, str]]:
    return [
        (one.func.attr, one.args[0].value)
        for one in method.decorator_list
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr in _VERBS
        and one.args
        and isinstance(one.args[0], ast.Constant)
    ]


def _body(entries: list[Any], others: list[Any] | None = None) -> Any:
    parameters = [one.arg for entry in entries for one in entry.args.args if one.arg not in {"self", "cls"}]
    annotated = {
        one.arg: ast.unparse(one.annotation) for entry in entries for one in entry.args.args if one.annotation
    }
    if len(parameters) == 1 and annotated.get(parameters[0]) == "str":
        return value_for(parameters[0])
    members = dict.fromkeys(name for entry in [*entries, *(others or [])] for name in _members(entry))
    return {name: value_for(name) for name in members}


def _members(entry: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of members that a function reads of its first parameter, or of those of a batch."""
    parameters = {one.arg for one in entry.args.args} - {"self", "cls"}
    found = []
    for node in ast.walk(entry):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            holder, key = node.value, node.slice.value
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
        ):
            holder, key = node.func.value, getattr(node.args[0], "value", None)
        else:
            continue
        if isinstance(holder, ast.Name) and holder.id in parameters and isinstance(key, str):
            found.append(key)
    return found
