"""A reload restarts what has changed, and nothing else."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from eagleray.serve.fingerprint import fingerprint

PROGRAM = """
from eagleray import serve
import shared_part

@serve.deployment
class A:
    def __call__(self):
        return shared_part.value()

@serve.deployment
class B:
    def __call__(self):
        return "b"

app = A.bind(B.bind())
"""


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    names = ["fingerprinted", "shared_part"]

    def imported(program: str, shared: str = "def value(): return 1") -> ModuleType:
        for name in names:
            sys.modules.pop(name, None)
        (tmp_path / "shared_part.py").write_text(shared)
        (tmp_path / "fingerprinted.py").write_text(textwrap.dedent(program))
        importlib.invalidate_caches()
        return importlib.import_module("fingerprinted")

    sys.path.insert(0, str(tmp_path))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    yield imported
    sys.dont_write_bytecode = before
    sys.path.remove(str(tmp_path))
    for name in names:
        sys.modules.pop(name, None)


def prints(module: ModuleType, tmp_path: Path) -> tuple[str, str]:
    roots = [str(tmp_path)]
    return fingerprint(module.A.func_or_class, roots), fingerprint(module.B.func_or_class, roots)


def test_only_the_changed_deployment_gets_a_new_fingerprint(
    load: Callable[..., ModuleType], tmp_path: Path
) -> None:
    before = prints(load(PROGRAM), tmp_path)
    after = prints(load(PROGRAM.replace('"b"', '"B"')), tmp_path)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_comments_and_bindings_change_nothing(load: Callable[..., ModuleType], tmp_path: Path) -> None:
    before = prints(load(PROGRAM), tmp_path)
    after = prints(
        load("# a remark\n" + PROGRAM.replace("app = A.bind(B.bind())", "app = A.bind()")), tmp_path
    )
    assert after == before


def test_an_imported_local_module_counts(load: Callable[..., ModuleType], tmp_path: Path) -> None:
    before = prints(load(PROGRAM), tmp_path)
    after = prints(load(PROGRAM, "def value(): return 2"), tmp_path)
    assert after[0] != before[0]


def test_installed_modules_do_not_count(load: Callable[..., ModuleType], tmp_path: Path) -> None:
    module = load(PROGRAM)
    assert fingerprint(module.A.func_or_class, [str(tmp_path / "elsewhere")]) == fingerprint(
        module.B.func_or_class, [str(tmp_path / "elsewhere")]
    )


HELPERS = """
from eagleray import serve
import shared_part

def used():
    return inner()

def inner():
    return 1

def builder(args):
    return A.bind(args["x"])

@serve.deployment
class A:
    def __call__(self):
        return used()

@serve.deployment
class B:
    def __call__(self):
        return "b"
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("return 1", "return 2", (True, False)),
        ('args["x"]', 'args["y"]', (False, False)),
        ("import shared_part", "import shared_part\nprint('imported')", (True, True)),
    ],
)
def test_a_function_counts_where_it_is_known(
    load: Callable[..., ModuleType], tmp_path: Path, old: str, new: str, changed: tuple[bool, bool]
) -> None:
    before = prints(load(HELPERS), tmp_path)
    after = prints(load(HELPERS.replace(old, new)), tmp_path)
    assert (before[0] != after[0], before[1] != after[1]) == changed


def test_a_function_counts_where_another_module_may_use_it(
    load: Callable[..., ModuleType], tmp_path: Path
) -> None:
    shared = "def value():\n    import fingerprinted\n    return fingerprinted.builder"
    before = prints(load(HELPERS, shared), tmp_path)
    after = prints(load(HELPERS.replace('args["x"]', 'args["y"]'), shared), tmp_path)
    assert before[0] != after[0] and before[1] != after[1]
