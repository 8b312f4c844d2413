"""Config files and what stands for them on a command line: read, and made whole, before anybody is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import yaml


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


def read_file(path: str) -> Any:
    """What a YAML or JSON file holds; relative paths of environments are taken from where the file is."""
    try:
        data = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise click.ClickException(f"{path} is no YAML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from None
    applications = data.get("applications") if isinstance(data, dict) else None
    for application in applications if isinstance(applications, list) else []:
        if isinstance(application, dict):
            _settle(application.get("runtime_env"), path)
    return data


def _settle(environment: Any, path: str) -> None:
    if not isinstance(environment, dict):
        return
    base = Path(path).resolve().parent

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
    environment = read_file(file) if file is not None else yaml.safe_load(text) if text is not None else {}
    if not isinstance(environment, dict):
        raise click.UsageError("A runtime environment is a mapping, such as {env_vars: {A: b}}.")
    if working_dir is not None:
        environment["working_dir"] = working_dir if "://" in working_dir else os.path.abspath(working_dir)
    return environment
