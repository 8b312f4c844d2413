"""DeploymentHandle: calls a deployment's methods from anywhere, in any thread, without blocking.

A handle is a name with options. It owns nothing and holds no connection: the runtime of the process does, so copies
are free and pickling keeps only the name. The path of a call is: context, pickled arguments, router.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from eagleray.base.deprecation import warn_deprecated
from eagleray.base.ids import DeploymentID, new_request_id, new_unique_id
from eagleray.serve.broadcast import Broadcast, DeploymentBroadcastResponse
from eagleray.serve.composition import Composition, find_responses
from eagleray.serve.context import RequestContext, current_request, current_runtime, known_runtime, process
from eagleray.serve.response import (
    DeploymentResponse,
    DeploymentResponseGenerator,
    HandleCall,
    StreamCall,
    _Response,
)
from eagleray.serve.selection import ReplicaSelection, dispatch, reserve
from eagleray.wire import codec
from eagleray.wire.messages import CallHead, CallKind

T = TypeVar("T")

_OLD_HANDLES = ("RayServeHandle", "RayServeSyncHandle", "RayServeDeploymentHandle")

_PYTHON = int(CallKind.PYTHON)
_SERIALIZATIONS = ("cloudpickle", "pickle", "msgpack", "orjson")
_KINDS: dict[str, type] = {"method_name": str, "multiplexed_model_id": str, "session_id": str, "stream": bool}
"""Replicas refuse a call whose head has other types, and with it the connection and all that it carries."""
_OPTIONS = frozenset(
    (
        "method_name",
        "multiplexed_model_id",
        "session_id",
        "stream",
        "request_serialization",
        "response_serialization",
        "_prefer_local_routing",
        "_by_reference",
    )
)


class DeploymentHandle(Generic[T]):
    """Calls `deployment_name` of `app_name`. `handle.method.remote(...)` calls a method, `handle.remote` `__call__`."""

    __slots__ = (
        "_handle_id",
        "_is_set_up",
        "_key",
        "_method",
        "_methods",
        "_model_id",
        "_options",
        "_session_id",
        "_stream",
    )

    def __init__(self, deployment_name: str, app_name: str, _options: dict[str, Any] | None = None) -> None:
        options = _options or {}
        self._key = DeploymentID(deployment_name, app_name).key
        self._options = options
        self._method: str = options.get("method_name", "")
        self._model_id: str = options.get("multiplexed_model_id", "")
        self._session_id: str = options.get("session_id", "")
        self._stream: bool = options.get("stream", False)
        self._methods: dict[str, DeploymentHandle[Any]] = {}
        self._handle_id = ""
        self._is_set_up = False

    # ---- calling ---------------------------------------------------------------------------------------------

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Starts a call; returns a DeploymentResponse, or a DeploymentResponseGenerator with `stream=True`.

        DeploymentResponses among the arguments are replaced by their values before the call is sent. Raises at once
        when an argument cannot be pickled.
        """
        runtime = process.runtime or current_runtime()
        request = current_request()
        stream = self._stream
        head = self._head(request, self._method, stream)
        for value in args:
            if isinstance(value, _Response):
                composed = True
                break
        else:
            composed = bool(kwargs) and bool(find_responses((), kwargs))
        body = b"" if composed else codec.dump_call(args, kwargs, runtime.take)
        tracing = process.tracing
        if tracing is None:
            call = (StreamCall if stream else HandleCall)(runtime, self._key, head, body, request)
        else:
            call = tracing.call(stream, runtime, self._key, head, body, request)
        if composed:
            runtime.post(Composition(call, args, kwargs).begin)
        elif request.children is None:
            runtime.begin(call, call.begin)
        else:
            runtime.post(call.begin)
        return DeploymentResponseGenerator(call) if stream else DeploymentResponse(call)

    @asynccontextmanager
    async def choose_replica(self, *args: Any, **kwargs: Any) -> AsyncIterator[ReplicaSelection]:
        """Chooses a replica for one call, and keeps a slot there, before the arguments of the call are known.

        The arguments given here are for a request router of yours; method, model, session and `stream` are those of
        this handle. Waits and fails like a call. Leaving the block without `dispatch` gives the slot back.
        """
        args = tuple([await arg if isinstance(arg, DeploymentResponse) else arg for arg in args])
        kwargs = {k: await v if isinstance(v, DeploymentResponse) else v for k, v in kwargs.items()}
        request = current_request()
        head = self._head(request, self._method, self._stream)
        call = reserve(process.runtime or current_runtime(), self._key, head, request, args, kwargs)
        try:
            yield await call.chosen()
        finally:
            call.leave()

    def dispatch(
        self, selection: ReplicaSelection, *args: Any, **kwargs: Any
    ) -> DeploymentResponse[Any] | DeploymentResponseGenerator[Any]:
        """Sends the call that `selection` was made for; arguments and response are as those of `remote`.

        ValueError for a selection of another deployment, RuntimeError for one that has been dispatched or whose block
        has ended. When the replica has gone meanwhile, the response raises ReplicaUnavailableError.
        """
        return dispatch(self._key, selection, args, kwargs)

    def broadcast(self, method_name: str, *args: Any, **kwargs: Any) -> DeploymentBroadcastResponse:
        """Calls the method on every replica that runs now, at once. For rare things, as resetting caches.

        It waits for a slot of each replica, but `max_queued_requests` does not count it.
        """
        if not isinstance(method_name, str):
            raise TypeError(f"method_name must be a str, got {method_name!r}.")
        runtime = process.runtime or current_runtime()
        request = current_request()
        composed = bool(find_responses(args, kwargs))
        body = b"" if composed else codec.dump_call(args, kwargs)
        call = Broadcast(runtime, self._key, self._head(request, method_name, False), body, request)
        runtime.post(Composition(call, args, kwargs).begin if composed else call.begin)
        return DeploymentBroadcastResponse(call)

    def _head(self, request: RequestContext, method: str, stream: bool) -> CallHead:
        return CallHead(
            _PYTHON,
            method,
            request.request_id or new_request_id(),
            request.deadline,
            "",
            request.route,
            stream,
            self._model_id,
            self._session_id,
            request.traceparent,
        )

    def options(self, **options: Any) -> DeploymentHandle[Any]:
        """A new handle with some options set; the others are inherited. TypeError for unknown or unfit ones."""
        if unknown := sorted(set(options) - _OPTIONS):
            raise TypeError(f"options() got an unexpected keyword argument '{unknown[0]}'")
        if "_prefer_local_routing" in options:
            warnings.warn(
                "_prefer_local_routing is deprecated and has no effect on one machine.",
                DeprecationWarning,
                stacklevel=2,
            )
        given = {name: value for name, value in options.items() if value is not None}
        for name, kind in _KINDS.items():
            if not isinstance(given.get(name, kind()), kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {given[name]!r}.")
        for name in ("request_serialization", "response_serialization"):
            if given.get(name, "pickle") not in _SERIALIZATIONS:
                raise ValueError(f"{name} must be one of {_SERIALIZATIONS}, got {given[name]!r}.")
        return DeploymentHandle(self.deployment_name, self.app_name, {**self._options, **given})

    def __getattr__(self, name: str) -> DeploymentHandle[Any]:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"'DeploymentHandle' object has no attribute '{name}'")
        handle = self._methods.get(name)
        if handle is None:
            handle = self._methods[name] = self.options(method_name=name)
        return handle

    # ---- what it is ------------------------------------------------------------------------------------------

    @property
    def deployment_id(self) -> DeploymentID:
        return DeploymentID.parse(self._key)

    @property
    def deployment_name(self) -> str:
        return self._key.partition("#")[2]

    @property
    def app_name(self) -> str:
        return self._key.partition("#")[0]

    @property
    def handle_id(self) -> str:
        """Random, the same for the life of this object."""
        if not self._handle_id:
            self._handle_id = new_unique_id()
        return self._handle_id

    @property
    def is_initialized(self) -> bool:
        """Whether this process is connected to an instance, so that calls go out at once."""
        return known_runtime() is not None

    def _init(self, **_options: Any) -> None:
        """Connects this process before the first call. RuntimeError when it is called on this handle again."""
        if self._is_set_up:
            raise RuntimeError(f"{self!r} is initialized already.")
        runtime = current_runtime()
        runtime.post(runtime.watch)
        self._is_set_up = True

    def running_replicas_populated(self) -> bool:
        """Whether the routing table of this process lists a replica of the deployment."""
        runtime = known_runtime()
        if runtime is None:
            return False
        entry = runtime.table.deployments.get(self._key)
        return bool(entry and entry.replicas)

    def shutdown(self) -> None:
        """Nothing to release: connections belong to the process, not to handles."""

    async def shutdown_async(self) -> None:
        """See `shutdown`."""

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment='{self.deployment_name}')"

    def __reduce__(self) -> tuple[Any, ...]:
        return DeploymentHandle, (self.deployment_name, self.app_name, self._options)


__all__ = [
    "DeploymentBroadcastResponse",
    "DeploymentHandle",
    "DeploymentResponse",
    "DeploymentResponseGenerator",
]


def __getattr__(name: str) -> Any:
    if name in _OLD_HANDLES:
        warn_deprecated(
            f"{name} is deprecated: use DeploymentHandle, whose calls are awaited or have .result()."
        )
        return DeploymentHandle
    raise AttributeError(f"module 'eagleray.serve.handle' has no attribute '{name}'")
