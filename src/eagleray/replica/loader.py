"""Finds the user's code in a fresh replica: by import path where there is a module, else from a pickled blob.

Runs on the user's thread, like everything that may execute user code.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from eagleray.base.errors import DeployError
from eagleray.serve.deployment import Deployment
from eagleray.wire import codec
from eagleray.wire.control import ReplicaLaunch


def extend_path(entries: list[str]) -> None:
    """Puts the directories of the user's modules in front, as they were where the application was built."""
    for entry in reversed(entries):
        if entry not in sys.path:
            sys.path.insert(0, entry)


def load_callable(launch: ReplicaLaunch) -> Callable[..., Any]:
    """The class or function to serve. Raises whatever importing it raises, or DeployError when it is not there."""
    found = _resolve(launch.target) if launch.target else codec.load_code(launch.code)
    if isinstance(found, Deployment):
        found = found.func_or_class
    if not callable(found):
        raise DeployError(f"'{launch.target}' is not a class or function but {type(found).__name__}.")
    function: Callable[..., Any] = found
    return function


def load_init(launch: ReplicaLaunch) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The bound arguments, with handles in place of the applications that were bound."""
    if not launch.init:
        return (), {}
    args, kwargs = codec.load_code(launch.init)
    return tuple(args), dict(kwargs)


def holds_handles(launch: ReplicaLaunch) -> bool:
    """Whether the bound arguments contain handles: a pickle names the module of each class that it needs."""
    return b"eagleray.serve.handle" in launch.init


def _resolve(target: str) -> Any:
    module_name, _, qualified_name = target.partition(":")
    found: Any = importlib.import_module(module_name)
    for name in qualified_name.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise DeployError(
                f"'{target}' was not found: '{name}' is missing from {found!r}. Has the file changed since the "
                f"application was deployed?"
            ) from None
    return found
