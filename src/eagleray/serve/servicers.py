"""Which RPCs a generated `add_XServicer_to_server` function knows: it is given a server that only writes them down.

The proxy learns so what to listen for. Requests are parsed in the replica, which finds the parser by the name that
`name_of` gives it here. No gRPC is imported: where it is needed, the user's generated module does that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from eagleray.base.errors import ConfigError
from eagleray.spec.options import gRPCOptions

Deserializer = Callable[[bytes], Any]

_EXTRA = ("grpc", "google.protobuf", "grpc_health", "grpc_reflection")
"""Modules of the extra `grpc`."""


@dataclass(frozen=True)
class Rpc:
    """One method of a service. `path` is `/package.Service/Method`; `deserialize` is None where bytes are wanted."""

    path: str
    client_streaming: bool
    server_streaming: bool
    deserialize: Deserializer | None
    servicer: str

    @property
    def service(self) -> str:
        return self.path.split("/")[1]

    @property
    def method(self) -> str:
        return self.path.rpartition("/")[2]


def require_grpc() -> None:
    """Raises ModuleNotFoundError, which says what to install, when the extra is not there."""
    missing = [name for name in _EXTRA if not _is_installed(name)]
    if missing:
        raise ModuleNotFoundError(
            f"gRPC needs {', '.join(missing)}, which this environment lacks: pip install 'eagleray[grpc]'",
            name=missing[0],
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def record(paths: Iterable[str]) -> dict[str, Rpc]:
    """The RPCs of the servicer functions at `paths`, by their own path; later functions win.

    Raises ModuleNotFoundError for what cannot be imported, ValueError for what is no servicer function.
    """
    require_grpc()
    found: dict[str, Rpc] = {}
    for path in paths:
        recorder = _Recorder(path)
        function = _load(path)
        try:
            function(_Servicer(), recorder)
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"gRPC servicer function '{path}' is not like the generated add_XServicer_to_server(servicer, server): "
                f"{error}"
            ) from error
        if not recorder.rpcs:
            raise ValueError(f"gRPC servicer function '{path}' has added no RPC to its server.")
        found |= recorder.rpcs
    return found


def read_grpc(options: dict[str, Any] | gRPCOptions | None) -> gRPCOptions:
    """gRPC options as a user gives them. Raises ValueError for wrong ones, and as `record` does."""
    read = options if isinstance(options, gRPCOptions) else gRPCOptions.model_validate(options or {})
    if read.is_served:
        record(read.grpc_servicer_functions)
    return read


def _load(path: str) -> Callable[[Any, Any], object]:
    module_name, colon, attribute = path.partition(":")
    if not colon:
        module_name, _, attribute = path.rpartition(".")
    hint = "write 'package.module:add_XServicer_to_server', of a module that can be imported here"
    if not module_name or not attribute:
        raise ValueError(f"gRPC servicer function '{path}' is no import path: {hint}.")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"gRPC servicer function '{path}' cannot be imported ({error}): {hint}.", name=error.name
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ModuleNotFoundError(
                f"gRPC servicer function '{path}' cannot be imported ('{name}' is missing from {found!r}): {hint}.",
                name=module_name,
            )
        found = getattr(found, name)
    if not callable(found):
        raise ValueError(f"gRPC servicer function '{path}' is not callable but {type(found).__name__}.")
    function: Callable[[Any, Any], object] = found
    return function


class _Servicer:
    """Has every method that a generated function may take from it; none is ever called."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__") and name != "__call__":
            raise AttributeError(name)
        return _never_called


def _never_called(request: object, context: object) -> None:
    raise NotImplementedError


class _Recorder:
    """What a generated function takes for a server."""

    def __init__(self, servicer: str) -> None:
        self.rpcs: dict[str, Rpc] = {}
        self._servicer = servicer

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        for handler in generic_rpc_handlers:
            # Private, but the only way to enumerate what old generated code adds; Ray Serve relies on it too.
            for path, method in getattr(handler, "_method_handlers", {}).items():
                self._note(path, method)

    def add_registered_method_handlers(self, service_name: str, method_handlers: dict[str, Any]) -> None:
        for name, method in method_handlers.items():
            self._note(f"/{service_name}/{name}", method)

    def _note(self, path: str, method: Any) -> None:
        self.rpcs[path] = Rpc(
            path,
            bool(method.request_streaming),
            bool(method.response_streaming),
            method.request_deserializer,
            self._servicer,
        )


# ---- the parser of requests, by name -----------------------------------------------------------------------------


def name_of(rpc: Rpc) -> str:
    """What `deserializer_of` finds the RPC's parser by, in another process; empty when there is none.

    Generated messages are found where they are defined, which imports no gRPC. `__module__` of generated code is often
    wrong, because files are moved after protoc, so modules that have the class are looked through. All others are
    found by what registers them.
    """
    deserialize = rpc.deserialize
    if deserialize is None:
        return ""
    message = getattr(deserialize, "__self__", None)
    if isinstance(message, type):
        module_name, names = message.__module__, f"{message.__qualname__}.{deserialize.__name__}"
    else:
        module_name, names = deserialize.__module__ or "", getattr(deserialize, "__qualname__", "")
    for candidate in [module_name, *_modules_with(names.partition(".")[0])]:
        name = f"{candidate}:{names}"
        if _finds(name, deserialize):
            return name
    return f"{rpc.servicer}#{rpc.path}"


def deserializer_of(name: str) -> Deserializer:
    """The inverse of `name_of`. Raises whatever importing raises, AttributeError or KeyError when it is not there."""
    servicer, is_registered, path = name.partition("#")
    if is_registered:
        deserialize = record([servicer])[path].deserialize
        if deserialize is None:
            raise ConfigError(f"'{servicer}' registers no deserializer for {path} here.")
        return deserialize
    return _resolve(name)


def _resolve(name: str) -> Deserializer:
    module_name, _, path = name.partition(":")
    found: Any = import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part)
    deserialize: Deserializer = found
    return deserialize


def _modules_with(attribute: str) -> list[str]:
    found = [name for name, one in tuple(sys.modules.items()) if attribute in getattr(one, "__dict__", {})]
    return sorted(found, key=lambda name: not name.endswith("_pb2"))  # others import more than messages


def _finds(name: str, deserialize: Deserializer) -> bool:
    try:
        return _resolve(name) == deserialize
    except (ImportError, AttributeError, ValueError):
        return False
