"""docs/compat.md says of every name of Ray Serve's surface how it fares, and the code and the tests agree with it."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import typing
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from tests.compat.impl import ON_RAY, ROOT
from tests.compat.names.rows import Fate, Section, full_names
from tests.compat.test_table import differences
from tests.docs.render_names import NAMED, SECTIONS, path_of, render

pytestmark = pytest.mark.skipif(ON_RAY, reason="about Eagleray's code and pages")

PYTHON = re.compile(r"serve(\.\w+)*(\(.*\))?")
by_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title.split()[0])


def test_the_page_is_up_to_date() -> None:
    page = NAMED.read_text()
    assert page == render(page), "run `python -m tests.docs.render_names`"


@by_section
def test_a_row_says_what_shows_it(section: Section) -> None:
    for row in section.rows:
        assert row.by or row.fate is not Fate.WORKS, f"{row.names}: what works is shown by a test"
        assert row.text or row.key or row.fate is Fate.WORKS, (
            f"{row.names}: how does it differ, or why is it absent?"
        )
        assert set(row.key) <= differences(), row.names
        for reference in row.by:
            path, function = path_of(reference)
            assert path.is_file(), f"{row.names}: {path} does not exist"
            assert not function or function in _functions(path), f"{row.names}: {path} has no {function}"


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return frozenset(node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@by_section
def test_a_python_name_is_there(section: Section) -> None:
    for row, name in [(one, name) for one in section.rows for name in full_names(one)]:
        if not PYTHON.fullmatch(name) or name == "serve":
            continue
        path, _, parameters = name.rstrip(")").partition("(")
        try:
            found = _find(path)
        except ImportError as error:
            # Ours says why and what to do; a plain one would be a name that nobody has thought of.
            assert row.fate is Fate.NOT and "Instead: " in str(error), name
            continue
        wanted = set(re.findall(r"\w+", parameters))
        assert not wanted or wanted <= _parameters(found), f"{path} lacks {wanted - _parameters(found)}"


def _find(path: str) -> Any:
    """What `serve.a.b` names. A field of a model or of a dataclass counts, though a class has no such attribute."""
    found: Any = importlib.import_module("eagleray.serve")
    so_far = "eagleray.serve"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # names of earlier versions
        for part in path.split(".")[1:]:
            so_far = f"{so_far}.{part}"
            if inspect.ismodule(found) and not hasattr(found, part):
                found = importlib.import_module(so_far)
            elif inspect.isclass(found) and part in _fields(found):
                return None
            else:
                found = getattr(found, part)
    return found


def _fields(kind: type) -> set[str]:
    named = {name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})}
    made = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    own = inspect.getsource(kind) if kind.__module__.startswith("eagleray") else ""
    return named | made | set(re.findall(r"\bself\.(\w+)\s*[:=]", own))


def _parameters(found: Any) -> set[str]:
    if hasattr(found, "model_fields"):
        return {*found.model_fields}
    if getattr(found, "__qualname__", "") == "DeploymentHandle.options":
        return set(importlib.import_module("eagleray.serve.handle")._OPTIONS)
    accepted = set()
    functions: list[Callable[..., Any]] = (
        [*typing.get_overloads(found), found] if inspect.isfunction(found) else [found]
    )
    for function in functions:
        for parameter in inspect.signature(function, eval_str=False).parameters.values():
            accepted.add(parameter.name)
            if parameter.kind is parameter.VAR_KEYWORD and "DeploymentOptions" in str(parameter.annotation):
                accepted |= set(
                    importlib.import_module("eagleray.serve.deployment").DeploymentOptions.__annotations__
                )
    return accepted


@by_section
def test_series_variables_and_commands_are_there(section: Section) -> None:
    here, _, absent = (ROOT / "docs" / "observability.md").read_text().partition("| series | why |")
    series, no_series = (set(re.findall(r"`(serve_[a-z_]+)`", text)) for text in (here, absent))
    settings = (ROOT / "docs" / "settings.md").read_text()
    for row, name in [(one, name) for one in section.rows for name in one.names]:
        is_here = row.fate in (Fate.WORKS, Fate.DIFFERS)
        if re.fullmatch(r"serve_[a-z_]+", name):
            assert name.replace("grpc", "http") in (series if is_here else no_series), name
        elif re.fullmatch(r"(RAY|SERVE)_[A-Z_]+", name):
            assert (f"Also {name}." in settings) is is_here, name
        elif name.startswith("serve "):
            _, command, *options = name.split()
            known = importlib.import_module("eagleray.cli.commands").commands
            found = known.get_command(click.Context(known), command)
            offered = {text for one in found.params for text in (*one.opts, *one.secondary_opts)}
            assert set(options) <= offered, name
