"""The house keeps its measures: size of modules, classes and functions, and what a module may import where."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "eagleray"
MODULES = sorted(SOURCE.rglob("*.py"))

MAX_MODULE, MAX_CLASS, MAX_FUNCTION = 400, 250, 60
EXCEPTIONS: dict[str, str] = {}
"""`path` or `path:Name` -> why it may be larger."""


def _length(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_sizes_stay_within_limits(path: Path) -> None:
    name = str(path.relative_to(SOURCE))
    text = path.read_text()
    too_large = []
    if len(text.splitlines()) > MAX_MODULE and name not in EXCEPTIONS:
        too_large.append(f"module {name}: {len(text.splitlines())} lines > {MAX_MODULE}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            limit = MAX_CLASS
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            limit = MAX_FUNCTION
        else:
            continue
        if _length(node) > limit and f"{name}:{node.name}" not in EXCEPTIONS:
            too_large.append(f"{name}:{node.lineno} {node.name}: {_length(node)} lines > {limit}")
    assert not too_large, "\n".join(too_large)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert doc and len(doc.split()) >= 4, f"{path.name} needs a docstring"


def test_environment_is_read_in_one_place() -> None:
    allowed = {"base/settings.py"}
    offenders = [
        name
        for path in MODULES
        if (name := str(path.relative_to(SOURCE))) not in allowed
        and not name.startswith("engine/")
        and ("os.environ" in path.read_text() or "os.getenv" in path.read_text())
    ]
    assert not offenders, f"os.environ belongs to base/settings.py and engine/: {offenders}"


def test_unpickling_happens_in_exactly_two_functions() -> None:
    calls = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) in (
                    "pickle.loads",
                    "cloudpickle.loads",
                    "pickle.load",
                    "cloudpickle.load",
                    "pickle.Unpickler",
                ):
                    calls.append(f"{path.relative_to(SOURCE)}:{node.name}")
    assert len(calls) == 2, calls
    assert {call.split(":")[0] for call in calls} == {"wire/codec.py"}
