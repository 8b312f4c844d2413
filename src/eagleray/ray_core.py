"""The few things that programs ask of Ray itself: `init`, `get`, the runtime context.

`import eagleray as ray` has them. They cost nothing that `serve` would not do anyway: an instance starts when
something is deployed, a result is fetched by its response. What is missing is missing by name (`base.ray_names`).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from eagleray.base.deprecation import warn_deprecated
from eagleray.base.ray_names import NeedsRayError, explain
from eagleray.base.settings import Settings
from eagleray.serve import api, context
from eagleray.serve.job import job
from eagleray.serve.response import DeploymentResponse
from eagleray.spec.environment import RuntimeEnv, is_archive

logger = logging.getLogger("ray.serve")

_LOCAL = (None, "auto", "local")
"""Addresses that mean this machine."""


@dataclass
class RayContext:
    """What `init` returns; as a context manager it ends with `shutdown`."""

    dashboard_url: str = ""
    python_version: str = ".".join(map(str, sys.version_info[:3]))
    ray_version: None = None
    address_info: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *_: object) -> None:
        shutdown()

    def disconnect(self) -> None:
        """`shutdown` under its other name."""
        shutdown()


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    ignore_reinit_error: bool = False,
    runtime_env: dict[str, Any] | None = None,
    **kwargs: Any,
) -> RayContext:
    """Nothing has to be initialised; what is given here counts for what this program deploys later.

    `num_gpus` and `resources` are what the instance has that this program starts, `runtime_env` is inherited by its
    deployments. Other keywords of Ray are taken and mean nothing on one machine. RuntimeError when called twice
    without `ignore_reinit_error`, NeedsRayError for the address of a cluster, ValueError for a `runtime_env` that
    cannot be had.
    """
    if address not in _LOCAL:
        raise NeedsRayError(f"address={address!r} is a Ray cluster's. {explain('ray.init')}")
    if unknown := sorted(name for name in kwargs if name not in _IGNORED and not name.startswith("_")):
        raise TypeError(f"init() got an unexpected keyword argument '{unknown[0]}'")
    if job.is_initialized:
        if not ignore_reinit_error:
            raise RuntimeError(
                "init() has been called already in this program: call it once, or pass ignore_reinit_error=True, "
                "which leaves everything as it is."
            )
        return _context()
    job.environment = _read_environment(runtime_env)
    given = {"num_gpus": num_gpus, "resources": resources}
    job.resources = {name: value for name, value in given.items() if value is not None}
    if job.resources and context.known_runtime() is not None:
        logger.warning("init(%s) has no effect: the instance runs already.", ", ".join(job.resources))
    job.is_initialized = True
    return _context()


_IGNORED = [
    "configure_logging",
    "dashboard_host",
    "dashboard_port",
    "enable_resource_isolation",
    "include_dashboard",
    "job_config",
    "labels",
    "local_mode",
    "log_to_driver",
    "logging_config",
    "logging_format",
    "logging_level",
    "namespace",
    "object_store_memory",
    "system_reserved_cpu",
    "system_reserved_memory",
]
"""Keywords of `ray.init` that mean nothing on one machine."""


def _read_environment(given: dict[str, Any] | None) -> dict[str, Any]:
    environment = dict(given or {})
    directory = environment.get("working_dir")
    if isinstance(directory, str) and not is_archive(directory):
        environment["working_dir"] = os.path.abspath(directory)
    RuntimeEnv.model_validate(environment)
    return environment


def _context() -> RayContext:
    port = Settings.from_env().admin_port
    url = f"127.0.0.1:{port}" if port > 0 else ""
    return RayContext(dashboard_url=url, address_info={"node_id": _node_id(), "address": "local"})


def is_initialized() -> bool:
    """Whether `init` has been called, or this process has an instance already. Inside a replica: True."""
    return job.is_initialized or context.known_runtime() is not None


def shutdown() -> None:
    """`serve.shutdown`, and forgets what `init` was given. Safe to call twice; inside a replica it does nothing."""
    if context.current_process().replica is None:
        api.shutdown()
        job.forget()


def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """The result of a response of `handle.remote(...)`, or of each one in a list, within `timeout` seconds in all.

    Deprecated: `response.result(timeout_s=...)`, or `await response`. Raises what they raise; TypeError for anything
    that is no response.
    """
    responses = list(object_refs) if isinstance(object_refs, list | tuple) else [object_refs]
    for one in responses:
        if not isinstance(one, DeploymentResponse):
            raise TypeError(
                f"get() takes a response of `handle.remote(...)`, or a list of them, got {type(one).__name__}. "
                f"Values need no get: pass them on as they are."
            )
    warn_deprecated("ray.get(response) is deprecated: use response.result(), or await the response.")
    results = _results(responses, timeout)
    return results if isinstance(object_refs, list | tuple) else results[0]


def _results(responses: Iterable[DeploymentResponse[Any]], timeout: float | None) -> list[Any]:
    if timeout is None:
        return [one.result() for one in responses]
    deadline = monotonic() + timeout
    return [one.result(timeout_s=max(0.0, deadline - monotonic())) for one in responses]


class RuntimeContext:
    """Where this code runs. Ids are those that `eagleray status` and the REST API tell."""

    @property
    def actor_id(self) -> str | None:
        """Of the replica that this code runs in; None outside of one."""
        return self.get_actor_id()

    def get_actor_id(self) -> str | None:
        replica = context.current_process().replica
        return None if replica is None else f"replica-{replica.replica_tag}"

    def get_actor_name(self) -> str | None:
        return self.get_actor_id()

    @property
    def node_id(self) -> str:
        """This machine's."""
        return _node_id()

    def get_node_id(self) -> str:
        return _node_id()

    def get_worker_id(self) -> str:
        """The process id."""
        return str(os.getpid())

    @property
    def was_current_actor_reconstructed(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NeedsRayError(explain(f"ray.get_runtime_context().{name}"))


def get_runtime_context() -> RuntimeContext:
    """Who and where this code is; works everywhere."""
    return RuntimeContext()


def _node_id() -> str:
    return socket.gethostname()


__all__ = [
    "RayContext",
    "RuntimeContext",
    "get",
    "get_runtime_context",
    "init",
    "is_initialized",
    "shutdown",
]
