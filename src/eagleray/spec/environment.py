"""`runtime_env`: what the process of a replica, or the builder of an application, finds around it.

The keys and forms are Ray's; those that one machine cannot give are refused by name. Nothing is read or installed
here: paths and packages are looked at by `engine.environments`, off the serving path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import Field, StrictBool, field_validator, model_validator

from eagleray.spec.base import SpecModel
from eagleray.spec.problems import nearest

_ELSEWHERE = ("conda", "container", "image_uri", "java_jars", "nsight", "py_executable", "mpi")
"""Keys of Ray that need more than a Python environment of this machine."""

_SCHEMES = ("file://", "local://")


class PipPackages(SpecModel):
    """What pip is to install: requirement lines, or the path of a requirements file."""

    packages: list[str] | str
    pip_check: StrictBool = False
    pip_install_options: list[str] = Field(default_factory=list)

    @field_validator("packages")
    @classmethod
    def _check(cls, value: list[str] | str) -> list[str] | str:
        return check_packages(value)


class UvPackages(SpecModel):
    """What uv is to install, or pip where there is no uv."""

    packages: list[str] | str
    uv_check: StrictBool = False
    uv_pip_install_options: list[str] = Field(default_factory=list)

    @field_validator("packages")
    @classmethod
    def _check(cls, value: list[str] | str) -> list[str] | str:
        return check_packages(value)


class EnvironmentOptions(SpecModel):
    """`runtime_env["config"]`. An environment is always made when it is first needed."""

    setup_timeout_seconds: float | None = Field(default=None, json_schema_extra={"unit": "s"})
    eager_install: StrictBool = True

    @field_validator("setup_timeout_seconds")
    @classmethod
    def _check(cls, value: float | None) -> float | None:
        if value is not None and value != -1 and not value > 0:
            raise ValueError(f"setup_timeout_seconds must be positive, or -1 for no limit, got {value}")
        return None if value == -1 else value


class RuntimeEnv(SpecModel):
    """Variables, files and packages. What needs no packages and no archives costs nothing to make."""

    env_vars: dict[str, str] = Field(default_factory=dict)
    working_dir: str | None = None
    py_modules: list[str] = Field(default_factory=list)
    pip: PipPackages | None = None
    uv: UvPackages | None = None
    excludes: list[str] = Field(default_factory=list)
    config: EnvironmentOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for key in value:
            if key in _ELSEWHERE:
                raise ValueError(
                    f"runtime_env[{key!r}] is not supported on one machine: install what it brings before the "
                    f"instance starts, or name packages with 'pip' or 'uv'"
                )
            if key not in cls.model_fields:
                meant = nearest(str(key), cls.model_fields)
                hint = f"did you mean {meant!r}?" if meant else f"known are {', '.join(cls.model_fields)}"
                raise ValueError(f"runtime_env key {key!r} is not known; {hint}")
        value = {key: item for key, item in value.items() if item is not None}
        for key in ("pip", "uv"):
            if isinstance(value.get(key), (list, str)):
                value[key] = {"packages": value[key]}
        if "pip" in value and "uv" in value:
            raise ValueError("runtime_env has both 'pip' and 'uv': keep one of them")
        return value

    @field_validator("env_vars")
    @classmethod
    def _check_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"{name!r} cannot be the name of an environment variable")
            if "\0" in text:
                raise ValueError(f"the value of {name!r} has a NUL character, which no variable can have")
        return value

    @field_validator("working_dir")
    @classmethod
    def _check_directory(cls, value: str | None) -> str | None:
        return value if value is None else check_path("working_dir", value)

    @field_validator("py_modules")
    @classmethod
    def _check_modules(cls, value: list[str]) -> list[str]:
        return [check_path("py_modules", one) for one in value]

    def recipe(self) -> str:
        """JSON of all that must be made before a process can start in it; "" when there is nothing."""
        packages = self.pip or self.uv
        archived = self.working_dir is not None and is_archive(self.working_dir)
        if packages is None and not self.py_modules and not archived:
            return ""
        made = self.model_dump(mode="json", include={"working_dir", "py_modules", "pip", "uv", "config"})
        return msgspec.json.encode(made, order="deterministic").decode()


def recipe_of(written: Mapping[str, Any]) -> str:
    """The recipe of a `runtime_env` as it stands in a config. pydantic's ValidationError when it is none."""
    return RuntimeEnv.model_validate(dict(written)).recipe()


def is_archive(path: str) -> bool:
    """Whether it must be unpacked, or at least resolved, before a process can use it."""
    return path.endswith((".zip", ".whl")) or "://" in path


def check_path(key: str, value: str) -> str:
    """ValueError for what is no path of this machine."""
    if not value:
        raise ValueError(f"runtime_env[{key!r}] is empty: name a folder or a .zip file")
    if "://" in value and not value.startswith(_SCHEMES):
        scheme = value.partition("://")[0]
        raise ValueError(
            f"runtime_env[{key!r}] {value!r} is on another machine ({scheme}://): fetch it first, and name the local "
            f"path or file:// of it"
        )
    return value


def check_packages(value: list[str] | str) -> list[str] | str:
    """ValueError for a line that would be more than one."""
    for line in value if isinstance(value, list) else [value]:
        if not line.strip() or "\n" in line or "\r" in line or "\0" in line:
            raise ValueError(
                f"packages must be requirements, one by one, such as 'six==1.17.0', got {line!r}"
            )
    return value
