"""The child that makes one environment: answers `prepare` once, with where everything is, or why it is not.

It runs off the serving path, so that an installer that takes minutes holds nobody up; killing it kills the installer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import traceback
from typing import Any
from urllib.parse import unquote

from eagleray.base.errors import ConfigError, EaglerayError
from eagleray.base.process import Child, run_child
from eagleray.base.settings import Settings
from eagleray.engine.environments.archive import link_module, unpack
from eagleray.engine.environments.cache import Cache, cache_home
from eagleray.engine.environments.packages import install, read_packages
from eagleray.rpc.control import serve_control
from eagleray.rpc.server import Incoming
from eagleray.wire.control import decode
from eagleray.wire.environment import EnvironmentLaunch, Prepared

_PYTHON, _FILES = "bin/python", "files"
"""What an environment with packages, and one with files, is used for."""


def main(child: Child) -> None:
    """Serves on the child's socket until it is ended."""
    listener = child.listener
    assert listener is not None, "the maker of an environment needs its socket"
    recipe = decode(child.payload, EnvironmentLaunch).recipe
    run_child(child, lambda: _serve(recipe, listener))


async def _serve(recipe: str, listener: socket.socket) -> None:
    async def answer(_payload: bytes, _incoming: Incoming) -> Prepared:
        return await asyncio.to_thread(prepare, recipe)

    await serve_control({"prepare": answer}, listener, name="environment")


def prepare(recipe_text: str) -> Prepared:
    """Makes what is not there yet; every failure becomes `Prepared.error`."""
    try:
        settings = Settings.from_env()
        cache = Cache(cache_home(settings), settings.environment_cache_mb << 20)
        return _prepare(json.loads(recipe_text), cache, settings.environment_timeout_s)
    except EaglerayError as error:
        print(error, flush=True)
        return Prepared(error=str(error))
    except Exception as error:  # the root of this process: a full disk, for one
        traceback.print_exc()
        return Prepared(error=f"The environment could not be made: {type(error).__name__}: {error}")


def _prepare(recipe: dict[str, Any], cache: Cache, timeout_s: float | None) -> Prepared:
    made = Prepared()
    if recipe.get("working_dir"):
        made.working_dir = _place(recipe["working_dir"], "working_dir", cache, made.holds)
        made.paths.append(made.working_dir)
    made.paths += [_place(path, "py_modules", cache, made.holds) for path in recipe.get("py_modules") or ()]
    packages = read_packages(recipe)
    if packages is not None:
        config = recipe.get("config") or {}
        limit_s = config.get("setup_timeout_seconds") or timeout_s
        home = cache.get(f"venv-{packages.digest}", lambda path: install(packages, path, limit_s), _PYTHON)
        made.python = os.path.join(home, _PYTHON)
        made.holds.append(home)
    return made


def _place(written: str, key: str, cache: Cache, holds: list[str]) -> str:
    """The directory for sys.path that `written` stands for; what must not be collected goes to `holds`."""
    scheme, separator, rest = written.partition("://")
    path = os.path.abspath(unquote(rest) if separator else written)
    if os.path.isfile(path) and path.endswith((".zip", ".whl")):
        strips = scheme == "file" and bool(separator)
        name = f"tree-{_file_digest(path)}{'-top' if strips else ''}"
        home = cache.get(
            name, lambda home: unpack(path, os.path.join(home, _FILES), strips_top=strips), _FILES
        )
        holds.append(home)
        return os.path.join(home, _FILES)
    if os.path.isdir(path) and key == "working_dir":
        return path
    if os.path.isdir(path) or (os.path.isfile(path) and path.endswith(".py")):
        name = f"link-{hashlib.sha256(path.encode()).hexdigest()[:24]}"
        home = cache.get(name, lambda home: link_module(path, os.path.join(home, _FILES)), _FILES)
        holds.append(home)
        return os.path.join(home, _FILES)
    there = "is neither a folder nor a .zip file" if os.path.exists(path) else "does not exist"
    if key == "py_modules" and os.path.exists(path):
        there = "is neither a folder, a .py file, a .zip file nor a wheel"
    raise ConfigError(f"runtime_env['{key}'] '{written}' {there}: name one that can be read at '{path}'.")


def _file_digest(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ConfigError(f"'{path}' of runtime_env cannot be read: {error.strerror}.") from None
    return digest.hexdigest()[:24]
