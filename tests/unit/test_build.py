"""Import paths, application builders and their arguments; what a user reads when one of them is wrong."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eagleray.build import build, load_application
from eagleray.spec.application import ApplicationSpec
from eagleray.wire.control import BuilderLaunch, Built

SOURCE = """
from pydantic import BaseModel
from eagleray import serve

@serve.deployment
class Hello:
    def __init__(self, word="hello", child=None):
        self.word = word

@serve.deployment
class Other:
    pass

class Arguments(BaseModel):
    word: str
    times: int = 1

app = Hello.bind()
pair = Hello.bind("x", Other.bind())
number = 3

def from_dict(args):
    return Hello.bind(args.get("word", "none"))

def from_model(args: Arguments):
    return Hello.bind(args.word * args.times)

def nothing(args):
    return None

def two(a, b):
    return app
"""

Module = Callable[..., Built]


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Module]:
    """Writes a module and builds what it names; modules of the test are forgotten afterwards."""
    before = set(sys.modules)
    path = list(sys.path)

    def run(path_name: str, source: str = SOURCE, /, **launch: Any) -> Built:
        (tmp_path / "userapp.py").write_text(source)
        sys.modules.pop("userapp", None)
        importlib.invalidate_caches()
        return build(BuilderLaunch(import_path=path_name, sys_path=[str(tmp_path)], **launch))

    yield run
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("userapp"):
            del sys.modules[name]


def spec_of(built: Built) -> ApplicationSpec:
    assert not built.error
    return ApplicationSpec.from_json(built.spec)


def test_an_application_is_described_by_import_paths(module: Module) -> None:
    spec = spec_of(module("userapp:pair", name="a", route_prefix="/a"))
    assert (spec.name, spec.route_prefix) == ("a", "/a")
    assert [deployment.code.target for deployment in spec.deployments] == ["userapp:Hello", "userapp:Other"]
    assert spec_of(module("userapp.app")).ingress.name == "Hello"


def test_builders_take_a_dict_or_a_model(module: Module) -> None:
    first = spec_of(module("userapp:from_dict", args={"word": "y"}))
    second = spec_of(module("userapp:from_model", args={"word": "y", "times": "1"}))
    assert first.ingress.init == second.ingress.init != spec_of(module("userapp:from_dict")).ingress.init


@pytest.mark.parametrize(
    ("path", "args", "words"),
    [
        ("nowhere_at_all:app", {}, ["'nowhere_at_all'", "--app-dir"]),
        ("userapp", {}, ["no import path", "hello:app"]),
        ("userapp:", {}, ["no import path", "module:attribute"]),
        ("userapp:missing", {}, ["'missing'", "userapp.py", "app, pair"]),
        ("userapp:app", {"word": "x"}, ["takes no arguments", "word"]),
        ("userapp:Hello", {}, ["bind"]),
        ("userapp:number", {}, ["int"]),
        ("userapp:nothing", {}, ["NoneType"]),
        ("userapp:two", {}, ["exactly one parameter"]),
        ("userapp:from_model", {}, ["word", "userapp:from_model"]),
    ],
)
def test_a_wrong_path_or_argument_is_one_clear_error(
    module: Module, path: str, args: dict[str, Any], words: list[str]
) -> None:
    error = module(path, args=args).error
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    "source", ["import not_installed_anywhere", "1 / 0", "def (:", "raise SystemExit(3)"], ids=str
)
def test_a_module_that_fails_is_shown_with_the_users_frames_only(module: Module, source: str) -> None:
    error = module("userapp:app", "\n" + source).error
    assert "userapp" in error and "eagleray" not in error and "importlib" not in error, error


def test_an_error_of_ours_names_the_users_line(module: Module) -> None:
    source = "from eagleray.base.ray_names import RayOnly\n\n@RayOnly('ray.remote')\ndef work(): ...\n"
    error = module("userapp:app", source).error
    place, _, text = error.partition(": ")
    assert place.endswith("userapp.py:3") and text.startswith("'ray.remote' needs Ray itself"), error


def test_versions_follow_code_and_arguments(module: Module) -> None:
    old = spec_of(module("userapp:pair")).deployments
    same = spec_of(
        module("userapp:pair", SOURCE.replace("number = 3", "number = 3  # a comment"))
    ).deployments
    assert [one.version for one in old] == [one.version for one in same]
    other = spec_of(module("userapp:pair", SOURCE.replace('bind("x"', 'bind("z"'))).deployments
    assert [a.version == b.version for a, b in zip(old, other, strict=True)] == [False, True]


def test_load_application_raises_what_the_module_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not found"):
        load_application("nowhere_at_all:app", {}, [str(tmp_path)])
