"""What a statement refers to, and what a class lacks: the facts by which a program is found complete or not."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator

_KNOWN = {
    *dir(builtins),
    "__name__",
    "__file__",
    "__doc__",
    "__spec__",
    "__builtins__",
    "__module__",
    "__qualname__",
}
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def bound_names(statement: ast.stmt) -> set[str]:
    """The module's names that this statement of its top level binds."""
    table = symtable.symtable(ast.unparse(statement), "excerpt", "exec")
    return {
        one.get_name()
        for one in table.get_symbols()
        if one.is_assigned() or one.is_imported() or one.is_namespace()
    }


def references(statement: ast.stmt, deep: bool) -> set[str]:
    """Names of the module that the statement needs: when it is executed, or, `deep`, when all of it has run, too."""
    top = symtable.symtable(ast.unparse(statement), "excerpt", "exec")
    found: set[str] = set()
    _collect(top, deep, found)
    return found - _KNOWN


def _collect(table: symtable.SymbolTable, deep: bool, found: set[str]) -> None:
    for symbol in table.get_symbols():
        outside = table.get_type() == "module" or symbol.is_global()
        if symbol.is_referenced() and outside:
            found.add(symbol.get_name())
    for child in table.get_children():
        if (
            deep
            or child.get_type() == "class"
            or child.get_name() in {"listcomp", "dictcomp", "setcomp", "genexpr"}
        ):
            _collect(child, deep, found)


def line_of_name(statements: list[ast.stmt], name: str) -> int:
    """Where the name is used first."""
    uses = [
        node.lineno
        for one in statements
        for node in ast.walk(one)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
    ]
    return min(uses, default=statements[0].lineno if statements else 1)


def is_deployment(statement: ast.stmt) -> bool:
    """Whether `@serve.deployment` decorates it."""
    return isinstance(statement, Definition) and any(
        ast.unparse(one.func if isinstance(one, ast.Call) else one) == "serve.deployment"
        for one in statement.decorator_list
    )


def is_hollow(body: list[ast.stmt], fillers: tuple[str, ...] = ("...",)) -> bool:
    """Whether there is nothing but `...` (and a docstring)."""
    rest = [
        one
        for one in body
        if not (isinstance(one, ast.Expr) and isinstance(getattr(one.value, "value", 0), str))
    ]
    return not rest or all(ast.unparse(one) in fillers for one in rest)


def methods(one: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (item for item in one.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))


def lacking(one: Definition) -> str:
    """What a deployment cannot do without and has not: a body, or an attribute that nothing sets. "" if nothing."""
    if is_hollow(one.body, ("...", "pass")):
        return f"{one.name} has no body"
    if not isinstance(one, ast.ClassDef):
        return ""
    for method in methods(one):
        if is_hollow(method.body):
            return f"{one.name}.{method.name} has no body"
    if one.bases:
        return ""
    attributes = [
        node
        for method in methods(one)
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == _first(method)
    ]
    set_somewhere = {node.attr for node in attributes if not isinstance(node.ctx, ast.Load)}
    set_somewhere |= {name for item in one.body for name in bound_names(item)} | set(dir(object))
    missing = [node for node in attributes if node.attr not in set_somewhere]
    return f"{one.name}.{missing[0].attr} is not defined" if missing else ""


def _first(method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    parameters = [*method.args.posonlyargs, *method.args.args]
    return parameters[0].arg if parameters else ""


def imported_modules(statements: list[ast.stmt]) -> list[str]:
    """The packages that the statements import, anywhere in them."""
    found = {}
    for one in statements:
        for node in ast.walk(one):
            if isinstance(node, ast.Import):
                found |= dict.fromkeys(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module.partition(".")[0]] = None
    return list(found)


def calls(node: ast.AST, function: str) -> list[ast.Call]:
    """The calls of `function`, such as `serve.run`, in a piece of code."""
    return [one for one in ast.walk(node) if isinstance(one, ast.Call) and ast.unparse(one.func) == function]


def needs_gpu(statements: list[ast.stmt]) -> bool:
    """Whether the code takes CUDA for granted: it names the device "cuda" and knows no other."""
    devices = {
        node.value for one in statements for node in ast.walk(one) if isinstance(node, ast.Constant)
    } & {"cuda", "cpu"}
    return devices == {"cuda"}
