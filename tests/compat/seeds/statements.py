"""What kind of statement one is, and where it stands: what `programs` asks of an excerpt's top level."""

from __future__ import annotations

import ast

from tests.compat.seeds.names import Definition, bound_names
from tests.compat.seeds.reading import Excerpt


def does_something(one: ast.stmt) -> bool:
    """Whether the statement runs something, other than defining."""
    if isinstance(one, ast.Expr):
        return isinstance(one.value, ast.Call | ast.Await)
    if isinstance(one, ast.Assign):
        return any(
            ast.unparse(call.func).startswith("ray.") for call in ast.walk(one) if isinstance(call, ast.Call)
        )
    return isinstance(one, ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Assert)


def first_line(one: ast.stmt) -> int:
    """With its decorators."""
    return min([one.lineno, *(each.lineno for each in getattr(one, "decorator_list", []))])


def is_main_guard(one: ast.stmt) -> bool:
    return isinstance(one, ast.If) and "__name__" in ast.unparse(one.test)


def is_bind(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "bind"


def called(node: ast.AST) -> list[ast.Call]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Call)]


def ingresses(deployed: list[Definition], reached: list[ast.stmt]) -> list[Definition]:
    """The last deployment that no other one is given: what `serve.run` gets."""
    binds = [call for one in reached for call in called(one) if is_bind(call)]
    arguments = [one for call in binds for one in [*call.args, *(each.value for each in call.keywords)]]
    given = {one.id for one in arguments if isinstance(one, ast.Name)}
    nested = {_bound_class(one) for one in arguments if is_bind(one)}
    named = {
        _bound_class(one.value): bound_names(one)
        for one in reached
        if isinstance(one, ast.Assign) and is_bind(one.value)
    }
    outermost = [one for one in deployed if one.name not in nested and not named.get(one.name, set()) & given]
    return outermost[-1:]


def _bound_class(bind: ast.expr) -> str:
    """`Model` of `Model.options(...).bind(...)`."""
    return ast.unparse(bind).partition(".")[0]


def deployment_name(one: ast.stmt) -> str:
    assert isinstance(one, Definition)
    names = [
        keyword.value.value
        for call in one.decorator_list
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
    ]
    return str(names[0]) if names else one.name


def text_of(excerpt: Excerpt, one: ast.stmt) -> str:
    lines = excerpt.text.splitlines()
    return "\n".join(lines[one.lineno - excerpt.first : (one.end_lineno or one.lineno) - excerpt.first + 1])


def ranges(lines: list[tuple[int, int]]) -> str:
    """`36-50, 60`; neighbours with nothing but blank lines and comments between them are told as one."""
    merged: list[list[int]] = []
    for begin, end in lines:
        if merged and begin - merged[-1][1] <= 4:
            merged[-1][1] = end
        else:
            merged.append([begin, end])
    return ", ".join(f"{begin}-{end}" if end > begin else str(begin) for begin, end in merged)
