"""What an instance is born with: turns a row and its target into the engine's order to start a child."""

from __future__ import annotations

import json
import os
from typing import Any

from eagleray.base.log_files import file_name
from eagleray.controller.listing import control_address
from eagleray.controller.storage import Storage
from eagleray.reconcile.events import BuildRequest
from eagleray.reconcile.instance import InstanceRow
from eagleray.reconcile.placement import Supply, visible_devices
from eagleray.reconcile.target import GRPC_PROXY_KEY, RunningConfig, Target
from eagleray.wire.control import (
    BuilderLaunch,
    GrpcProxyLaunch,
    NodeConfig,
    ProxyLaunch,
    Reconfigure,
    ReplicaLaunch,
    StartChild,
    encode,
)
from eagleray.wire.environment import Prepared
from eagleray.wire.scaling import PolicyLaunch


class Launcher:
    """Knows the directories and options of this instance."""

    def __init__(self, config: NodeConfig, storage: Storage) -> None:
        self.config = config
        self._storage = storage
        self._controller = f"unix:{config.runtime_dir}/controller.sock"

    def address(self, ref: str) -> str:
        return control_address(self.config.runtime_dir, ref)

    def log_path(self, row: InstanceRow) -> str:
        app, _, deployment = row.owner.partition("#")
        if app:
            parts = [row.kind, app, deployment, row.unique_id]
        else:
            parts = [row.kind, *(["grpc"] if row.owner == GRPC_PROXY_KEY else []), row.unique_id]
        directory = self.config.logs_dir
        if row.kind == "replica":
            directory = os.path.join(directory, _logging(row.config).get("logs_dir") or "")
        return os.path.join(directory, file_name(*parts))

    def builder_log_path(self, app: str) -> str:
        return os.path.join(self.config.logs_dir, file_name("builder", app))

    async def start_child(
        self, row: InstanceRow, target: Target, supply: Supply, prepared: Prepared
    ) -> StartChild:
        """Raises KeyError or StoreError when a blob that is needed is not there."""
        path = self.address(row.ref).removeprefix("unix:")
        if row.owner == GRPC_PROXY_KEY:
            return StartChild(
                ref=row.ref,
                module="eagleray.proxy.grpc.__main__",
                payload=encode(self._grpc_proxy(row)),
                listen=path,
                log_path=self.log_path(row),
            )
        if row.kind == "proxy":
            config = self.config
            return StartChild(
                ref=row.ref,
                module="eagleray.proxy.__main__",
                payload=encode(self._proxy(row)),
                listen=path,
                http=(config.http_host or "127.0.0.1", config.http_port),
                log_path=self.log_path(row),
            )
        env = dict(target.env_vars)
        devices = visible_devices(supply, row.allocation)
        if devices is not None:
            env["CUDA_VISIBLE_DEVICES"] = devices
        return StartChild(
            ref=row.ref,
            module="eagleray.replica.__main__",
            payload=encode(await self._replica(row, target, prepared.paths)),
            env=env,
            cwd=prepared.working_dir or target.working_dir,
            listen=path,
            log_path=self.log_path(row),
            python=prepared.python,
            holds=prepared.holds,
        )

    def _proxy(self, row: InstanceRow) -> ProxyLaunch:
        return ProxyLaunch(
            proxy_id=row.unique_id,
            controller_address=self._controller,
            http_options=self.config.http_options,
            logging_config=_logging(row.config) or self.config.logging_config,
            tracing_config=self.config.tracing_config,
            logs_dir=self.config.logs_dir,
        )

    def _grpc_proxy(self, row: InstanceRow) -> GrpcProxyLaunch:
        return GrpcProxyLaunch(
            proxy_id=row.unique_id,
            controller_address=self._controller,
            grpc_options=self.config.grpc_options,
            logging_config=_logging(row.config) or self.config.logging_config,
            tracing_config=self.config.tracing_config,
        )

    async def _replica(self, row: InstanceRow, target: Target, paths: list[str]) -> ReplicaLaunch:
        config = row.config
        return target.launch(
            row.unique_id,
            config,
            init=await self._storage.blob(target.init) if target.init else b"",
            target=target.import_target,
            code=await self._storage.blob(target.code) if target.code else b"",
            graceful_shutdown_wait_loop_s=config.graceful_shutdown_wait_loop_s,
            root_path=str(self.config.http_options.get("root_path") or ""),
            sys_path=[*paths, *target.sys_path],
            controller_address=self._controller,
            rank=row.rank,
            world_size=config.world_size,
            logging_config=_logging(config) or self.config.logging_config,
            tracing_config=self.config.tracing_config,
            logs_dir=self.config.logs_dir,
        )

    def policy_child(self, ref: str, app: str, target: Target, prepared: Prepared) -> StartChild:
        """A child that runs the application's autoscaling policies, in the environment of a replica of `target`."""
        return StartChild(
            ref=ref,
            module="eagleray.policies",
            payload=encode(PolicyLaunch(app=app, sys_path=[*prepared.paths, *target.sys_path])),
            env=dict(target.env_vars),
            cwd=prepared.working_dir or target.working_dir,
            listen=self.address(ref).removeprefix("unix:"),
            log_path=os.path.join(self.config.logs_dir, file_name("policies", app)),
            python=prepared.python,
            holds=prepared.holds,
        )

    def builder_child(self, ref: str, app: str, request: BuildRequest, prepared: Prepared) -> StartChild:
        launch = BuilderLaunch(
            import_path=request.import_path,
            args=json.loads(request.args),
            name=app,
            route_prefix=request.route_prefix,
            sys_path=list(request.sys_path),
            paths=prepared.paths,
            imports=list(request.imports),
            reload=request.reload,
            logs_dir=self.config.logs_dir,
        )
        environment = json.loads(request.runtime_env) if request.runtime_env else {}
        return StartChild(
            ref=ref,
            module="eagleray.build",
            payload=encode(launch),
            env=environment.get("env_vars") or {},
            cwd=prepared.working_dir or environment.get("working_dir") or "",
            listen=self.address(ref).removeprefix("unix:"),
            log_path=self.builder_log_path(app),
            python=prepared.python,
            holds=prepared.holds,
        )


def reconfigure_message(
    before: RunningConfig, after: RunningConfig, logging: dict[str, Any] | None = None
) -> Reconfigure:
    """Only what differs, so that the user's `reconfigure` runs only for another `user_config`.

    `logging` is the instance's logging_config, for replicas that have none.
    """
    changed: dict[str, Any] = {}
    if before.user_config != after.user_config:
        changed["user_config"] = (after.user_config or "null").encode()
    if before.logging != after.logging:
        changed["logging_config"] = _logging(after) or logging or {}
    for name in (
        "max_ongoing_requests",
        "max_ongoing_requests_given",
        "graceful_shutdown_wait_loop_s",
        "route_prefix",
        "world_size",
    ):
        if getattr(before, name) != getattr(after, name):
            changed[name] = getattr(after, name)
    return Reconfigure(**changed)


def _logging(config: RunningConfig) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config.logging) if config.logging else {}
    return found
