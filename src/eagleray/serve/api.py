"""`serve.run` and its sisters: what a script says to an instance. Everything here blocks and may be called anywhere.

Each function is one or two control calls; the instance is started when the first one needs it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any, TypeVar

from eagleray.base.errors import DeployError, EaglerayError, NotRunningError, ReplicaDiedError
from eagleray.base.ids import DeploymentID
from eagleray.serve import context, default_routes, instance, local
from eagleray.serve.deployment import Application
from eagleray.serve.handle import DeploymentHandle
from eagleray.serve.instance import Instance, blocking
from eagleray.serve.runtime import Runtime
from eagleray.serve.servicers import read_grpc
from eagleray.serve.targets import DEFAULT_PREFIX, RunTarget, build_targets, describe, read_logging
from eagleray.spec.options import (
    ControllerOptions,
    HTTPOptions,
    LoggingConfig,
    ProxyLocation,
    TracingConfig,
    gRPCOptions,
)
from eagleray.spec.status import ServeStatus
from eagleray.wire.control import (
    Accepted,
    DeleteApplications,
    Deploy,
    Empty,
    InstanceInfo,
    Message,
    Progress,
    StatusReply,
    WaitApplications,
    decode,
)

T = TypeVar("T")

logger = logging.getLogger("ray.serve")

START_TIMEOUT_S = 60.0
"""For the proxy to listen, from the start of the instance."""
DELETE_TIMEOUT_S = 60.0


# ---- start and end ---------------------------------------------------------------------------------------------


def start(
    proxy_location: str | ProxyLocation | None = None,
    http_options: dict[str, Any] | HTTPOptions | None = None,
    grpc_options: dict[str, Any] | gRPCOptions | None = None,
    logging_config: dict[str, Any] | LoggingConfig | None = None,
    tracing_config: dict[str, Any] | TracingConfig | None = None,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
    **kwargs: Any,
) -> None:
    """Starts an instance that ends with this process; returns when the proxies listen.

    When one is running it is kept as it is, with a warning about options that differ. TimeoutError when a proxy is not
    ready within 60 s, RayServeException when it cannot listen (a port in use, say). ModuleNotFoundError or ValueError
    for gRPC servicer functions that are none.
    """
    http = _read_http(proxy_location, http_options)
    grpc = read_grpc(grpc_options)
    tracing = TracingConfig.model_validate(tracing_config or {})
    found = instance.running()
    if found is not None or context.process.runtime is not None:
        _tell_where(found)
        if found is not None:
            found.warn_about_differences(http, grpc, tracing)
        return
    if wrong := sorted(set(kwargs) & {"http_host", "http_port", "http_middlewares"}):
        raise ValueError(f"serve.start() takes no {wrong}: use http_options=HTTPOptions(...).")
    if unknown := sorted(set(kwargs) - {"detached"}):
        raise TypeError(f"start() got an unexpected keyword argument '{unknown[0]}'")
    if local.is_wanted():
        local.start(http)
        return
    controller = ControllerOptions.model_validate(controller_options or {})
    _require_proxy(instance.start(http, read_logging(logging_config), controller, grpc, tracing))


def _read_http(
    location: str | ProxyLocation | None, options: dict[str, Any] | HTTPOptions | None
) -> HTTPOptions:
    where = ProxyLocation.parse(location)
    http = options if isinstance(options, HTTPOptions) else HTTPOptions.model_validate(options or {})
    if where is ProxyLocation.Disabled or (location is None and http.location is ProxyLocation.Disabled):
        return http.model_copy(update={"host": None})
    return http


def _tell_where(found: Instance | None) -> None:
    """That something outlives this program must surprise nobody."""
    if found is not None and found.places is not None and not found.is_told:
        found.is_told = True
        print(
            f"Using the instance of `eagleray start` ({found.places.address}): what is deployed to it outlives this "
            f"program. EAGLERAY_ATTACH=0 starts one that ends with it.",
            file=sys.stderr,
        )


def _require_proxy(started: Instance) -> None:
    """Waits until the proxy listens. A fresh instance without a working proxy is ended."""
    try:
        info = _ask(started.runtime, "info", Empty(), InstanceInfo, timeout_s=START_TIMEOUT_S)
        if info.http_error:
            raise EaglerayError(f"The HTTP proxy could not start: {info.http_error}")
        if info.grpc_error:
            raise EaglerayError(f"The gRPC proxy could not start: {info.grpc_error}")
    except TimeoutError as error:
        shutdown()
        raise TimeoutError(f"A proxy was not ready within {START_TIMEOUT_S:g} s.") from error
    except BaseException:
        shutdown()
        raise


def shutdown() -> None:
    """Deletes all applications and ends the instance that this process has started; without one it does nothing.

    An instance that it has only attached to is left as it is: `eagleray shutdown` ends that.
    """
    ended = local.stop()
    found = instance.forget()
    if found is None and ended:
        return
    if found is None:
        logger.info("There is nothing to shut down: Eagleray is not running.")
        return
    found.stop()


async def shutdown_async() -> None:
    """`shutdown` without blocking the caller's loop."""
    await asyncio.to_thread(shutdown)


# ---- run -------------------------------------------------------------------------------------------------------


def run(
    target: Application,
    blocking: bool = False,
    name: str = "default",
    route_prefix: str | None = DEFAULT_PREFIX,
    logging_config: dict[str, Any] | LoggingConfig | None = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
) -> DeploymentHandle[Any]:
    """Deploys an application, starting an instance if none is running, and returns a handle of its ingress.

    Returns when the application runs. RuntimeError, with the user's traceback, when it fails to; RayServeException
    for an empty name or a route prefix that another application has. `blocking=True` then waits for Ctrl-C.
    `_local_testing_mode` runs it in this process (docs/testing.md). `external_scaler_enabled` leaves numbers of
    replicas to the REST API. `controller_options` are for an instance that this starts.
    """
    one = RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled)
    (handle,) = run_many(
        [one],
        blocking=blocking,
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )
    return handle


def run_many(
    targets: Sequence[RunTarget],
    blocking: bool = False,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
) -> list[DeploymentHandle[Any]]:
    """Deploys several applications at once; see `run`. ValueError for none."""
    handles = _run_many(
        targets,
        wait_for_ingress_deployment_creation=wait_for_ingress_deployment_creation,
        wait_for_applications_running=wait_for_applications_running,
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )
    if blocking:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            logger.warning("Got KeyboardInterrupt, shutting down.")
            raise
    return handles


def _run(
    target: Application,
    *,
    _blocking: bool = True,
    name: str = "default",
    route_prefix: str | None = DEFAULT_PREFIX,
    logging_config: dict[str, Any] | LoggingConfig | None = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
) -> DeploymentHandle[Any]:
    """`run` that returns at once when `_blocking` is False."""
    (handle,) = _run_many(
        [RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled)],
        wait_for_applications_running=_blocking,
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )
    return handle


def _run_many(
    targets: Sequence[RunTarget],
    *,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: dict[str, Any] | ControllerOptions | None = None,
) -> list[DeploymentHandle[Any]]:
    if not targets:
        raise ValueError("run_many needs at least one RunTarget.")
    controller = ControllerOptions.model_validate(controller_options or {})
    if local.is_wanted(_local_testing_mode) or local.running() is not None:
        return _run_locally(targets)
    found = instance.running()
    _tell_where(found)
    targets = default_routes.settle(targets, None if found is None else found.runtime)
    specs, blobs = build_targets(targets, None if found is None else found.logging)
    runtime, started = _runtime_for_deploy(controller)
    message = Deploy(specs=[spec.to_json() for spec in specs], blobs=blobs)
    try:
        accepted = _ask(runtime, "deploy", message, Accepted, timeout_s=START_TIMEOUT_S)
    except TimeoutError:
        where = "" if (found := instance.running()) is None else found.last_words
        raise TimeoutError(f"The controller did not answer within {START_TIMEOUT_S:g} s. {where}") from None
    if accepted.error:
        raise EaglerayError(accepted.error)
    if started is not None:
        _require_proxy(started)
    if wait_for_applications_running:
        wait_running(runtime, [spec.name for spec in specs])
    return [DeploymentHandle(spec.ingress.name, spec.name) for spec in specs]


def _run_locally(targets: Sequence[RunTarget]) -> list[DeploymentHandle[Any]]:
    code: dict[str, dict[str, Any]] = {}
    specs, blobs = build_targets(targets, code=code)
    local.start().deploy(specs, blobs, code)
    return [DeploymentHandle(spec.ingress.name, spec.name) for spec in specs]


def _runtime_for_deploy(controller: ControllerOptions) -> tuple[Runtime, Instance | None]:
    """The runtime to deploy through, and the instance if it had to be started for that."""
    found = instance.running()
    if found is not None:
        return found.runtime, None
    if context.process.runtime is not None:
        return context.process.runtime, None
    started = instance.start(HTTPOptions(), controller=controller)
    return started.runtime, started


def wait_running(runtime: Runtime, names: list[str]) -> None:
    """Returns when all of them run; DeployError as soon as one has failed."""
    with blocking(runtime) as waiting:
        progress = waiting.run(_follow(waiting, names)).result()
    if progress.outcome == "failed":
        raise DeployError(f"Deploying application {progress.app} failed: {progress.message}")
    if progress.outcome != "running":
        raise DeployError(f"Deploying application {progress.app} was interrupted: {progress.message}")


async def _follow(runtime: Runtime, names: list[str]) -> Progress:
    """Waits for the outcome; a controller that restarts meanwhile is asked again."""
    while True:
        client = await runtime.controller()
        try:
            async for chunk in client.subscribe("wait", WaitApplications(names=names)):
                progress = decode(chunk, Progress)
                if progress.done:
                    return progress
                if progress.message:
                    print(progress.message, file=sys.stderr)
        except ReplicaDiedError:
            continue
        raise EaglerayError("The controller has stopped to report on the deploy; see `serve.status()`.")


# ---- questions -------------------------------------------------------------------------------------------------


def status() -> ServeStatus:
    """What is running and how it is; empty when Eagleray is not running."""
    if (engine := local.running()) is not None:
        return engine.status()
    try:
        runtime = _current()
    except NotRunningError:
        return ServeStatus()
    return ServeStatus.from_json(_ask(runtime, "status", Empty(), StatusReply).status)


def delete(name: str, _blocking: bool = True) -> None:
    """Deletes an application; an unknown one is no error. TimeoutError when it is not gone after 60 s."""
    if not isinstance(name, str):
        raise TypeError(f"`serve.delete` takes the name of an application, got {describe(name)}.")
    if (engine := local.running()) is not None:
        engine.delete(name)
        return
    try:
        runtime = _current()
    except NotRunningError:
        return
    message = DeleteApplications(names=[name])
    if not _blocking:
        runtime.request("delete", message, Empty, timeout_s=DELETE_TIMEOUT_S)
        return
    _ask(runtime, "delete", message, Empty, timeout_s=DELETE_TIMEOUT_S)


def get_app_handle(name: str) -> DeploymentHandle[Any]:
    """A handle of the application's ingress. RayServeException when it does not exist, or nothing is running."""
    runtime = _current()
    key = runtime.table.ingress.get(name)
    if key is None and not runtime.table_is_current:
        with blocking(runtime) as waiting:
            key = waiting.run(waiting.first_table()).result().ingress.get(name)
    if key is None:
        raise EaglerayError(f"Application '{name}' does not exist.")
    return DeploymentHandle(DeploymentID.parse(key).name, name)


def get_deployment_handle(
    deployment_name: str, app_name: str | None = None, _check_exists: bool = True
) -> DeploymentHandle[Any]:
    """A handle of one deployment; inside a replica `app_name` is its own application by default.

    KeyError when there is no such deployment, RayServeException when nothing is running.
    """
    runtime = _current()
    if app_name is None:
        replica = context.current_process().replica
        if replica is None:
            raise EaglerayError("Outside of a replica `get_deployment_handle` needs `app_name`.")
        app_name = replica.app_name
    wanted = DeploymentID(deployment_name, app_name)
    if _check_exists and wanted.key not in runtime.table.deployments:
        table = runtime.table
        if not runtime.table_is_current:
            with blocking(runtime) as waiting:
                table = waiting.run(waiting.first_table()).result()
        if wanted.key not in table.deployments:
            raise KeyError(f"{wanted} does not exist.")
    return DeploymentHandle(deployment_name, app_name)


def _current() -> Runtime:
    """The runtime of a living instance. NotRunningError without one."""
    instance.running()
    return context.current_runtime()


def _ask(
    runtime: Runtime, method: str, message: Message, reply: type[T], *, timeout_s: float | None = None
) -> T:
    """One control call, waited for."""
    with blocking(runtime) as waiting:
        return waiting.request(method, message, reply, timeout_s=timeout_s).result()
