"""The public API: `from eagleray import serve`.

Names are loaded when they are first used: a module that only declares deployments pays for neither rpc nor asyncio.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray.serve.api import (
        _run,
        _run_many,
        delete,
        get_app_handle,
        get_deployment_handle,
        run,
        run_many,
        shutdown,
        shutdown_async,
        start,
        status,
    )
    from eagleray.serve.batching import batch
    from eagleray.serve.context import get_replica_context
    from eagleray.serve.deployment import Application, Deployment, deployment
    from eagleray.serve.deployment_actors import get_deployment_actor, get_deployment_actor_context
    from eagleray.serve.ingress import ingress
    from eagleray.serve.legacy import get_deployment as get_deployment
    from eagleray.serve.legacy import list_deployments as list_deployments
    from eagleray.serve.multiplex import get_multiplexed_model_id, multiplexed
    from eagleray.serve.targets import RunTarget
    from eagleray.serve.tracing import get_trace_context
    from eagleray.spec.options import ControllerOptions, HTTPOptions, TracingConfig

_HOMES = {
    "eagleray.serve.api": (
        "_run _run_many delete get_app_handle get_deployment_handle run run_many shutdown shutdown_async "
        "start status"
    ),
    "eagleray.serve.batching": "batch",
    "eagleray.serve.context": "get_replica_context",
    "eagleray.serve.deployment": "Application Deployment deployment",
    "eagleray.serve.deployment_actors": "get_deployment_actor get_deployment_actor_context",
    "eagleray.serve.ingress": "ingress",
    "eagleray.serve.legacy": "get_deployment list_deployments",
    "eagleray.serve.multiplex": "get_multiplexed_model_id multiplexed",
    "eagleray.serve.targets": "RunTarget",
    "eagleray.serve.tracing": "get_trace_context",
    "eagleray.spec.options": "ControllerOptions HTTPOptions TracingConfig",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
_MODULES = (
    "autoscaling_policy",
    "batching",
    "config",
    "context",
    "exceptions",
    "gang",
    "gradio_integrations",
    "grpc_util",
    "handle",
    "metrics",
    "request_router",
    "schema",
    "scripts",
    "task_consumer",
    "task_processor",
)

__all__ = [
    "Application",
    "ControllerOptions",
    "Deployment",
    "HTTPOptions",
    "RunTarget",
    "TracingConfig",
    "_run",
    "_run_many",
    "batch",
    "delete",
    "deployment",
    "get_app_handle",
    "get_deployment_actor",
    "get_deployment_actor_context",
    "get_deployment_handle",
    "get_multiplexed_model_id",
    "get_replica_context",
    "get_trace_context",
    "ingress",
    "multiplexed",
    "run",
    "run_many",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is not None:
        value = globals()[name] = getattr(import_module(home), name)
        return value
    if name in _MODULES:
        return import_module(f"eagleray.serve.{name}")
    if not name.startswith("_"):
        absent = import_module("eagleray.serve.absent")
        if name in absent.MODULES:
            raise absent.missing(name)
        if name in absent.WHY:
            return absent.Absent(name)
    raise AttributeError(f"module 'eagleray.serve' has no attribute '{name}'")


class _Serve(ModuleType):
    """This package: importing `serve.deployment` the module must not hide `serve.deployment` the decorator."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME_OF):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # cloudpickle knows modules by their exact type only, and user code that travels by value names this one.
        return import_module, (__name__,)


sys.modules[__name__].__class__ = _Serve


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
