"""The import hook under which `ray`, `ray.serve` and its submodules are Eagleray's modules in this process.

A finder at the head of `sys.meta_path` answers for these names and for no other. The modules are the same objects under
a second name: a class has one identity however it was imported, and what is pickled names Eagleray's module, so that it
can be read without the hook, too. Nothing is written anywhere, a Ray that is installed stays as it is, and `remove`
leaves no name behind. Nothing of Ray is ever imported here: a name that Eagleray lacks is an error that says so.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

from eagleray.base.errors import ConfigError, EaglerayError

VARIABLE = "EAGLERAY_AS_RAY"
"""Set to 1 for the processes of an application whose code says `ray` for Eagleray."""

_ROOT, _SERVE = "ray", "ray.serve"

_HOMES = {
    _ROOT: "eagleray",
    _SERVE: "eagleray.serve",
    "ray.exceptions": "eagleray.exceptions",
    "ray.cloudpickle": "cloudpickle",
}

_NOTHING = [
    "ObjectRefGenerator",
    "air",
    "autoscaler",
    "client",
    "cross_language",
    "dag",
    "data",
    "experimental",
    "java_actor_class",
    "java_function",
    "job_submission",
    "llm",
    "rllib",
    "runtime_env",
    "state",
    "train",
    "tune",
    "workflow",
]
"""Names of Ray that nothing here replaces."""

INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(_NOTHING, ""),
    "remote": "put the code into a class with @serve.deployment, and call it by its handle",
    "put": "pass the value itself to the handle: large arrays travel in shared memory",
    "wait": "await the responses with asyncio.wait, or use response.result(timeout_s=...)",
    "cancel": "use response.cancel()",
    "kill": "use serve.get_replica_context().exit() in a replica, or serve.delete(name)",
    "get_actor": "use serve.get_app_handle(name) or serve.get_deployment_handle(name, app_name)",
    "method": "decorate nothing: handle.options(stream=True) calls a generator",
    "nodes": "this machine is the only node",
    "cluster_resources": "this machine is the only node",
    "available_resources": "this machine is the only node",
    "timeline": "see docs/observability.md",
    "actor": "use serve.handle.DeploymentHandle",
    "util": "of it there are metrics only: serve.metrics",
}
"""Names of Ray Core and of its libraries -> what does the same here; "" where nothing does."""


class NeedsRayError(EaglerayError):
    """The program uses something of Ray itself, which Eagleray's local engine does not have."""

    code = "config"
    blame = "caller"


class _NoSuchModuleError(NeedsRayError, ModuleNotFoundError):
    """As the import system raises it, so that `except ImportError` goes on to work."""


def explain(name: str) -> str:
    """Why `name`, such as `ray.put`, does not work, and what does."""
    first = name.removeprefix("ray.").partition(".")[0]
    hint = INSTEAD.get(first, "")
    return (
        f"'{name}' needs Ray itself: the program runs on Eagleray's local engine, which has what `ray.serve` has "
        f"and is no Ray cluster. {f'Instead: {hint}. ' if hint else ''}Or run it on the Ray engine; see docs/as-ray.md."
    )


class RayOnly:
    """Stands for a name of Ray that Eagleray has not: it may be imported and named in annotations; using it raises."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NeedsRayError(explain(self._name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # inspection by libraries, and by pickle of an object that is not made yet
            raise AttributeError(name)
        raise NeedsRayError(explain(f"{self._name}.{name}"))

    def __repr__(self) -> str:
        return f"<{self._name}, which needs Ray>"


class ObjectRef:
    """Ray's reference of a value, for annotations and `isinstance`; no value here is one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NeedsRayError(explain("ray.ObjectRef"))

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


class _Finder(MetaPathFinder):
    """Answers for every name at or below `ray`: left to others it could be a real Ray's, or a second copy of ours."""

    def __init__(self) -> None:
        self.stays = False
        self.blocks = 0
        """Blocks that need it."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _ROOT and not fullname.startswith("ray."):
            return None
        try:
            home = _home_of(fullname)
        except _NoSuchModuleError:
            if _is_question():
                return None
            raise
        return ModuleSpec(fullname, _Alias(home), origin=f"Eagleray's {home}")


def _is_question() -> bool:
    """Whether a library asks by `importlib.util.find_spec` if there is a module, which imports nothing.

    Such a caller expects None, and is no `import` that an error could tell anything; finders are asked alike by both.
    """
    frame = sys._getframe(2)  # of our caller's caller, and outwards
    while frame is not None and frame.f_globals.get("__name__") == "importlib._bootstrap":
        if frame.f_code.co_name == "_find_and_load":
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None and frame.f_globals.get("__name__") == "importlib.util"


def _home_of(name: str) -> str:
    home = _HOMES.get(name)
    if home is None and name.startswith(f"{_SERVE}."):
        home = f"eagleray.{name.removeprefix('ray.')}"
        if find_spec(home) is None:
            raise _NoSuchModuleError(f"Eagleray has no module '{name}' (docs/compat.md).", name=name)
    if home is None:
        raise _NoSuchModuleError(explain(name), name=name)
    return home


class _Alias(Loader):
    """Gives a module that has been loaded under its own name; it keeps that."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._own_spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._home)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import system has put ours there


_lock = threading.Lock()
"""Of what follows: blocks of several threads may overlap."""


def install() -> None:
    """`import ray` gives Eagleray from here on. Idempotent.

    ConfigError when Ray itself has been imported already: two meanings of a name in one process would help nobody.
    """
    with _lock:
        _put().stays = True


def remove() -> None:
    """`import ray` gives Ray again, where it is installed. Idempotent; who holds a module keeps it."""
    with _lock:
        _take_away()


def is_installed() -> bool:
    """Whether the hook is in force in this process."""
    return _installed() is not None


@contextmanager
def hook() -> Iterator[None]:
    """The hook for the time of a block; one that was in force before stays. In all threads, as imports are."""
    with _lock:
        finder = _put()
        finder.blocks += 1
    try:
        yield
    finally:
        with _lock:
            finder.blocks -= 1
            if finder.blocks == 0 and not finder.stays:
                _take_away()


def _installed() -> _Finder | None:
    return next((finder for finder in sys.meta_path if isinstance(finder, _Finder)), None)


def _put() -> _Finder:
    if (known := _installed()) is not None:
        return known
    if _ROOT in sys.modules:
        where = getattr(sys.modules[_ROOT], "__file__", None) or "memory"
        raise ConfigError(
            f"Ray itself has been imported already ({where}), so `ray` cannot mean Eagleray in this process: "
            f"start the program with `python -m eagleray.as_ray`, or call `as_ray.install()` before the first import."
        )
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    return finder


def _take_away() -> None:
    if _installed() is None:
        return
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name in [name for name in sys.modules if name == _ROOT or name.startswith("ray.")]:
        del sys.modules[name]
