"""Config files and what stands for them on a command line: read, and made whole, before anybody is asked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from eagleray.base.errors import ConfigError
from eagleray.spec.texts import parse_documents, yaml_mistake


def parse_arguments(pairs: tuple[str, ...]) -> dict[str, str]:
    """`key=value` pairs for an application builder; values stay strings, only the first `=` splits."""
    arguments = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise click.ClickException(
                f"Invalid application argument '{pair}', must be of the form '<key>=<val>'."
            )
        arguments[key] = value
    return arguments


STDIN = "-"


class Listed(dict[str, Any]):
    """A config made of applications as `eagleray config` prints them: it says nothing of others nor the instance."""


def is_file(path: str) -> bool:
    """Whether a config is to be read there: a file, a pipe (`<(...)`), or STDIN."""
    return path == STDIN or (os.path.exists(path) and not os.path.isdir(path))


def read_file(path: str) -> Any:
    """What a YAML or JSON file holds; relative paths of environments are taken from where the file is."""
    try:
        data = _parse(sys.stdin.read() if path == STDIN else Path(path).read_text(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from None
    applications = data.get("applications") if isinstance(data, dict) else None
    for application in applications if isinstance(applications, list) else []:
        if isinstance(application, dict):
            base = Path(path).resolve().parent if os.path.isfile(path) else Path.cwd()
            _settle(application.get("runtime_env"), base)
            deployments = application.get("deployments")
            for one in deployments if isinstance(deployments, list) else []:
                options = one.get("ray_actor_options") if isinstance(one, dict) else None
                _settle(options.get("runtime_env") if isinstance(options, dict) else None, base)
    return data


def _parse(text: str, source: str) -> Any:
    """JSON first: YAML takes it too, unless it is indented with tabs."""
    try:
        return _whole([json.loads(text, object_pairs_hook=_unique)], source)
    except _TwiceError:
        text = text.replace("\t", " ")  # read as YAML it is told by its lines
    except (ValueError, RecursionError):
        pass
    try:
        return _whole(parse_documents(text), source)
    except ConfigError as error:
        raise click.ClickException(f"{source} is not valid:\n{error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that there never was
        raise click.ClickException(f"{source} is no YAML, nor JSON: {yaml_mistake(error)}") from None


def _whole(documents: list[Any], source: str) -> Any:
    """What the documents of a file say together."""
    listed = [one for one in documents if isinstance(one, dict) and "name" in one and "import_path" in one]
    if listed and len(listed) == len(documents) and not any("applications" in one for one in listed):
        return Listed(applications=listed)
    if len(documents) > 1:
        raise click.ClickException(
            f"{source} has {len(documents)} documents: a config is one, unless each is an application with 'name' "
            "and 'import_path', as `eagleray config` prints them."
        )
    return documents[0] if documents else None


class _TwiceError(Exception):
    """An object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwiceError
    return found


def _settle(environment: Any, base: Path) -> None:
    if not isinstance(environment, dict):
        return

    def settle(one: Any) -> Any:
        return os.path.abspath(base / one) if isinstance(one, str) and one and "://" not in one else one

    if "working_dir" in environment:
        environment["working_dir"] = settle(environment["working_dir"])
    if isinstance(modules := environment.get("py_modules"), list):
        environment["py_modules"] = [settle(one) for one in modules]
    for key in ("pip", "uv"):  # a string is the path of a requirements file
        packages = environment.get(key)
        if isinstance(packages, str):
            environment[key] = settle(packages)
        elif isinstance(packages, dict) and isinstance(packages.get("packages"), str):
            packages["packages"] = settle(packages["packages"])


def read_environment(file: str | None, text: str | None, working_dir: str | None) -> dict[str, Any]:
    """`--runtime-env`, `--runtime-env-json` and `--working-dir` as one."""
    if file is not None and text is not None:
        raise click.UsageError("Give --runtime-env or --runtime-env-json, not both.")
    environment = {} if text is None else _parse(text, "--runtime-env-json")
    if file is not None:
        environment = read_file(file)
    if not isinstance(environment, dict):
        raise click.UsageError("A runtime environment is a mapping, such as {env_vars: {A: b}}.")
    _settle(environment, Path(file).resolve().parent if file is not None else Path.cwd())
    if working_dir is not None:
        environment["working_dir"] = working_dir if "://" in working_dir else os.path.abspath(working_dir)
    return environment
