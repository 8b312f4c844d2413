"""The builder role: a short-lived child that imports the user's module and describes the application it names.

It answers one `build` call with an ApplicationSpec and its blobs, or with an error that is written for the user. The
controller stays free of user code, and a module that crashes or hangs takes nothing down but this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import hashlib
import importlib
import inspect
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from eagleray.base.errors import ConfigError, EaglerayError
from eagleray.base.process import Child, run_child
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming, Server
from eagleray.serve.deployment import Application, Deployment
from eagleray.serve.fingerprint import fingerprint
from eagleray.serve.graph import build_application
from eagleray.serve.importable import check_import
from eagleray.wire.control import BuilderLaunch, Built, decode


def main(child: Child) -> None:
    """Answers `build` on the child's socket, then ends when the controller lets go."""
    listener = child.listener
    assert listener is not None, "a builder needs its socket"
    builder = BuilderProcess(decode(child.payload, BuilderLaunch))
    run_child(child, lambda: builder.run(listener))


class BuilderProcess:
    """The process's one server with its one method."""

    def __init__(self, launch: BuilderLaunch) -> None:
        self._launch = launch
        self._methods = ControlMethods({"build": self._build}, name="builder")
        self._server = Server(self._on_call)

    async def run(self, listener: socket.socket) -> None:
        """Serves until it is stopped: the controller ends a builder that has answered."""
        await self._server.start(listener)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._methods.close()
            await self._server.close()

    def _on_call(self, incoming: Incoming) -> None:
        self._methods.dispatch(incoming)

    async def _build(self, _payload: bytes, _incoming: Incoming) -> Built:
        # On a thread: user modules may well run a loop of their own while they are imported.
        return await asyncio.to_thread(build, self._launch)


def build(launch: BuilderLaunch) -> Built:
    """Imports and describes; every failure becomes `Built.error`."""
    for entry in reversed([*launch.paths, *launch.sys_path]):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    try:
        application = load_application(launch.import_path, launch.args, launch.sys_path)
        try:
            spec, blobs = build_application(
                application,
                name=launch.name,
                route_prefix=launch.route_prefix,
                make_version=_version_of(launch.sys_path),
                sys_path=launch.sys_path,
            )
            for kind, path, deployment in launch.imports:
                check_import(kind, path, deployment)
        except EaglerayError as error:
            module = sys.modules[_split(launch.import_path)[0]]
            return Built(error=f"'{launch.import_path}' ({_file_of(module)}) cannot be deployed. {error}")
    except EaglerayError as error:
        return Built(error=f"{_place(error)}{error}")
    except BaseException as error:  # user code runs in here, and raises what it likes
        return Built(error=_explain(error, launch.import_path))
    return Built(spec=spec.to_json(), blobs=blobs)


class NotAnApplicationError(ConfigError, TypeError):
    """The import path leads to something else."""


def load_application(import_path: str, args: dict[str, Any], sys_path: list[str]) -> Application:
    """The Application that `module:attribute` names, or that the builder function there makes from `args`.

    Raises ConfigError for a path that leads nowhere or a wrong use of `args`, which is a TypeError too where something
    else than an application is found, and whatever the user's module raises.
    """
    module, found = _resolve(import_path, sys_path)
    here = f"'{import_path}' ({_file_of(module)})"
    if isinstance(found, Application):
        if args:
            raise ConfigError(
                f"{here} is an application already, so it takes no arguments; got {sorted(args)}. Name a "
                f"function that returns the application to use arguments."
            )
        return found
    if isinstance(found, Deployment):
        raise NotAnApplicationError(
            f"{here} is a Deployment, not an application: bind it, as in `app = {found.name}.bind()`."
        )
    if not inspect.isfunction(found):
        raise NotAnApplicationError(
            f"{here} must be an application (`Deployment.bind(...)`) or a function that returns one, got "
            f"{type(found).__name__}."
        )
    application = _call_builder(found, args, here)
    if not isinstance(application, Application):
        if inspect.iscoroutine(application):
            application.close()
            hint = " It is an async function: make it a plain `def`."
        else:
            hint = " It lacks a `return`." if application is None else ""
        raise NotAnApplicationError(
            f"Application builder {here} must return an application (`Deployment.bind(...)`), got "
            f"{type(application).__name__}.{hint}"
        )
    return application


def _split(import_path: str) -> tuple[str, str]:
    module_name, colon, path = import_path.partition(":")
    if not colon:
        module_name, _, path = import_path.rpartition(".")
    return module_name, path


def _resolve(import_path: str, sys_path: list[str]) -> tuple[ModuleType, Any]:
    """The module, and what the path names in it."""
    module_name, path = _split(import_path)
    if not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        raise ConfigError(
            f"'{import_path}' is no import path: expected 'module:attribute', for example 'hello:app'."
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"Module '{module_name}' of import path '{import_path}' was not found. "
                f"{_nearest(module_name, _modules_beside(module_name, sys_path))}Searched: "
                f"{', '.join(sys_path) or 'the Python path'}. Go to its directory, or name it "
                f"with --app-dir or working_dir."
            ) from None
        raise
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigError(_nothing_there(module, import_path, name))
        found = getattr(found, name)
    return module, found


def _modules_beside(module_name: str, sys_path: list[str]) -> list[str]:
    """Modules and packages that could have been meant: those of the same directory."""
    package = module_name.rpartition(".")[0]
    found = []
    for root in sys_path:
        with contextlib.suppress(OSError):
            for entry in sorted(Path(root, *package.split(".")).iterdir()):
                if entry.stem.isidentifier() and (entry.suffix == ".py" or entry.is_dir()):
                    found.append(f"{package}.{entry.stem}" if package else entry.stem)
    return found


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"Did you mean '{close[0]}'? " if close else ""


def _nothing_there(module: ModuleType, import_path: str, name: str) -> str:
    members = vars(module).items()
    known = sorted(key for key, value in members if isinstance(value, Application))
    builders = [
        key for key, value in members if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    hint = f"It has these applications: {', '.join(known)}." if known else "It binds no application at all."
    nearest = _nearest(name, [*known, *builders])
    return f"'{name}' of import path '{import_path}' is not in {_file_of(module)}. {nearest}{hint}"


def _file_of(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__


def _call_builder(function: Callable[..., Any], args: dict[str, Any], here: str) -> Any:
    signature = inspect.signature(function, eval_str=True)
    parameters = list(signature.parameters.values())
    if len(parameters) != 1:
        raise NotAnApplicationError(
            f"Application builder {here} must take exactly one parameter, a dict or a pydantic model of its "
            f"arguments; it takes {len(parameters)}."
        )
    kind = parameters[0].annotation
    if not (inspect.isclass(kind) and issubclass(kind, BaseModel)):
        return function(args)
    try:
        arguments = kind.model_validate(args)
    except ValidationError as error:
        raise ConfigError(f"The arguments of {here} are wrong: {_told(error)}") from None
    return function(arguments)


def _told(error: ValidationError) -> str:
    """One line for each wrong argument, as it is written on the command line."""
    lines = []
    for one in error.errors(include_url=False):
        where = ".".join(map(str, one["loc"]))
        given = "" if one["type"] == "missing" or not where else f", got {where}={one['input']}"
        lines.append(f"{where}: {one['msg']}{given}" if where else one["msg"])
    return "; ".join(lines)


def _version_of(roots: list[str]) -> Callable[[Deployment, str], str]:
    """Versions that stay the same while code and bound arguments do, so that a reload restarts only what changed."""

    def version(deployment: Deployment, init: str) -> str:
        code = fingerprint(deployment.func_or_class, roots)
        return hashlib.sha256(f"{code} {init}".encode()).hexdigest()[:16]

    return version


def _explain(error: BaseException, import_path: str) -> str:
    """The user's part of the traceback: without the frames of this module and of importlib."""
    frame = error.__traceback__
    while frame is not None and _is_ours(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    text = "".join(traceback.format_exception(type(error), error, frame))
    text = text.rstrip().encode(errors="backslashreplace").decode()
    if isinstance(error, ModuleNotFoundError) and error.name == "ray":
        text += (
            "\nTo run a Ray Serve program on Eagleray as it is, use `eagleray run --as-ray` (docs/as-ray.md)."
        )
    elif isinstance(error, ModuleNotFoundError) and error.name:
        text += (
            f"\nInstall what brings '{error.name}' in this Python, name it in runtime_env's 'pip', or add its "
            f"folder with --app-dir or working_dir."
        )
    return f"'{import_path}' could not be loaded:\n{text}"


def _place(error: BaseException) -> str:
    """The line of the user's code that our error is about, as compilers say it; "" when it comes from none."""
    lines = [
        f"{frame.f_code.co_filename}:{number}: "
        for frame, number in traceback.walk_tb(error.__traceback__)
        if not _is_ours(frame.f_code.co_filename)
    ]
    return lines[-1] if lines else ""


def _is_ours(filename: str) -> bool:
    ours = Path(__file__).parent
    return filename.startswith(("<frozen", str(ours))) or filename == importlib.__file__


__all__ = ["build", "load_application", "main"]
