"""`runtime_env` as it is written: Ray's forms, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from eagleray.spec.environment import RuntimeEnv, recipe_of


@pytest.mark.parametrize(
    ("written", "packages"),
    [
        ({"pip": ["six==1.17.0"]}, ["six==1.17.0"]),
        ({"pip": "requirements.txt"}, "requirements.txt"),
        ({"pip": {"packages": ["a"], "pip_check": True, "pip_install_options": ["--no-deps"]}}, ["a"]),
    ],
)
def test_forms_of_pip(written: dict[str, Any], packages: Any) -> None:
    environment = RuntimeEnv.model_validate(written)
    assert environment.pip is not None and environment.pip.packages == packages
    again = RuntimeEnv.model_validate(environment.model_dump(mode="json", exclude_unset=True))
    assert again == environment
    assert json.loads(environment.recipe())["pip"]["packages"] == packages


def test_what_needs_nothing_made() -> None:
    for written in (
        {},
        {"env_vars": {"A": "b"}},
        {"working_dir": "/srv/app"},
        {"pip": None},
        {"excludes": ["x"]},
    ):
        assert recipe_of(written) == ""
    for written in (
        {"working_dir": "a.zip"},
        {"working_dir": "file:///a"},
        {"py_modules": ["m"]},
        {"uv": ["a"]},
    ):
        assert recipe_of(written) == recipe_of(dict(written)) != ""


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"pipp": ["six"]}, ["'pipp'", "did you mean 'pip'"]),
        ({"env_var": {}}, ["'env_var'", "did you mean 'env_vars'"]),
        ({"zzz": 1}, ["'zzz'", "known are", "working_dir"]),
        ({"conda": "env.yml"}, ["'conda'", "not supported on one machine", "'pip' or 'uv'"]),
        ({"container": {}}, ["'container'", "not supported"]),
        ({"image_uri": "x"}, ["'image_uri'", "not supported"]),
        ({"pip": ["a"], "uv": ["b"]}, ["both 'pip' and 'uv'"]),
        ({"pip": ["a\n-e /etc"]}, ["one by one", "'a\\n-e /etc'"]),
        ({"pip": {"packages": ["a"], "pip_versoin": "1"}}, ["pip_versoin"]),
        ({"working_dir": "s3://bucket/a.zip"}, ["working_dir", "another machine (s3://)", "file://"]),
        ({"working_dir": ""}, ["working_dir", "empty"]),
        ({"py_modules": ["https://x/y.whl"]}, ["py_modules", "another machine"]),
        ({"env_vars": {"A": 1}}, ["env_vars", "string"]),
        ({"env_vars": {"A=B": "x"}}, ["env_vars", "'A=B' cannot be the name"]),
        ({"env_vars": {"": "x"}}, ["'' cannot be the name"]),
        ({"env_vars": {"A": "x\0y"}}, ["the value of 'A' has a NUL character"]),
        ({"config": {"setup_timeout_seconds": 0}}, ["setup_timeout_seconds must be positive"]),
    ],
    ids=lambda value: "",
)
def test_mistakes(written: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        RuntimeEnv.model_validate(written)
    missing = [word for word in words if word not in str(raised.value)]
    assert not missing, str(raised.value)
