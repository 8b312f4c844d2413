"""The whole instance as one JSON document, `ServeInstanceDetails` of Ray Serve: what tooling and dashboards read.

Derived from the world whenever somebody asks; nothing of it is stored, and no spec is parsed for it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

from eagleray.base.clock import wall_time_s
from eagleray.base.errors import ConfigError
from eagleray.controller.health import PassTimes, health_metrics
from eagleray.reconcile.applications import ApplicationRow, is_scaled_outside
from eagleray.reconcile.instance import Instance, InstanceRow
from eagleray.reconcile.placement import UNIT
from eagleray.reconcile.status import application_overview, proxy_status, replica_state
from eagleray.reconcile.target import GRPC_PROXY_KEY, PROXY_KEY, PROXY_KEYS, Target
from eagleray.reconcile.world import World
from eagleray.spec.status import DeploymentStatusOverview
from eagleray.wire.control import NodeConfig

API_TYPES = ("imperative", "declarative")

NOT_RUNNING: dict[str, Any] = {
    "controller_info": {},
    "proxies": {},
    "applications": {},
    "target_capacity": None,
}
"""What is answered where no instance runs."""


class Details:
    """Knows where things are; `log_path` gives that of an instance, `docs_path` the one of a deployment's ASGI app,
    `scaling_of` its `autoscaling_detail`."""

    def __init__(
        self,
        world: World,
        config: NodeConfig,
        log_path: Callable[[InstanceRow], str],
        docs_path: Callable[[str], str | None],
        scaling_of: Callable[[str], dict[str, Any] | None],
        passes: PassTimes,
    ) -> None:
        self._passes = passes
        self._world = world
        self._config = config
        self._log_path = log_path
        self._docs_path = docs_path
        self._scaling_of = scaling_of
        self._host = socket.gethostname()
        self._begun_at = wall_time_s()

    def read(self, api_type: str | None = None) -> dict[str, Any]:
        """All of it; with `api_type` only applications that were deployed so. ConfigError for another word."""
        if api_type is not None and api_type not in API_TYPES:
            raise ConfigError(
                f"Invalid 'api_type' value: {api_type}. Must be one of: {', '.join(API_TYPES)}."
            )
        config, world = self._config, self._world
        return {
            "controller_info": {
                **self._process("controller", os.getpid(), f"{config.logs_dir}/controller.log"),
                "actor_name": "SERVE_CONTROLLER_ACTOR",
            },
            "proxy_location": "Disabled" if config.http_host is None else "EveryNode",
            "http_options": {
                **config.http_options,
                "host": config.http_host,
                "port": config.http_port,
                "ssl_keyfile_password": None,
            },
            "grpc_options": {key: value for key, value in config.grpc_options.items() if key != "sys_path"},
            "proxies": {
                one.row.unique_id: {**self._instance(one), "status": proxy_status(one.state)}
                for key in PROXY_KEYS
                for one in world.instances_of(key)
            },
            "applications": {
                name: self._application(row)
                for name, row in world.applications.items()
                if api_type is None or _source(row) == api_type
            },
            "target_capacity": world.declared.get("target_capacity"),
            "target_groups": self._target_groups(),
            "controller_health_metrics": health_metrics(self._begun_at, self._passes),
            "restores_unset_config_options": True,
        }

    # ---- processes --------------------------------------------------------------------------------------------

    def _process(self, ref: str, pid: int, log_path: str) -> dict[str, Any]:
        """The fields that Ray has of an actor; on one machine the node is the host."""
        return {
            "node_id": self._host,
            "node_ip": "127.0.0.1",
            "node_instance_id": self._host,
            "actor_id": ref,
            "actor_name": ref,
            "worker_id": str(pid) if pid else None,
            "log_file_path": log_path,
        }

    def _instance(self, instance: Instance) -> dict[str, Any]:
        row = instance.row
        return self._process(row.ref, row.pid, self._log_path(row))

    def _replica(self, instance: Instance) -> dict[str, Any]:
        row = instance.row
        return {
            **self._instance(instance),
            "replica_id": row.unique_id,
            "state": replica_state(row.state),
            "pid": row.pid or None,
            "start_time_s": row.started_at,
        }

    def _target_groups(self) -> list[dict[str, Any]]:
        groups = []
        for key, protocol in ((PROXY_KEY, "HTTP"), (GRPC_PROXY_KEY, "gRPC")):
            targets = [
                {
                    "ip": (one.row.http_address or ("127.0.0.1", 0))[0],
                    "port": one.row.http_address[1]
                    if one.row.http_address
                    else self._config.grpc_options.get("port", 0),
                    "instance_id": self._host,
                    "name": one.row.ref,
                }
                for one in self._world.instances_of(key)
                if one.is_listed
            ]
            if targets:
                groups.append(
                    {
                        "targets": targets,
                        "route_prefix": "/",
                        "protocol": protocol,
                        "app_name": "",
                        "ingress_request_router_targets": [],
                        "ingress_deployment_name": "",
                    }
                )
        return groups

    # ---- applications -----------------------------------------------------------------------------------------

    def _application(self, row: ApplicationRow) -> dict[str, Any]:
        overview = application_overview(self._world, row.name)
        targets = {
            key.partition("#")[2]: target
            for key in self._world.deployments_of(row.name)
            if (target := self._world.deployments[key].target or self._world.deployments[key].row.stable)
        }
        ingress = next((target for target in targets.values() if target.ingress), None)
        config = json.loads(row.config) if row.config else None
        return {
            "name": row.name,
            "route_prefix": _route_prefix(row, ingress),
            "docs_path": self._docs_path(ingress.key) if ingress is not None else None,
            "status": overview.status,
            "message": overview.message,
            "last_deployed_time_s": row.deployed_at,
            "deployed_app_config": config,
            "source": _source(row),
            "external_scaler_enabled": is_scaled_outside(row.config or row.spec),
            "deployment_topology": _topology(row.name, targets),
            "deployments": {
                name: self._deployment(target, overview.deployments[name]) for name, target in targets.items()
            },
        }

    def _deployment(self, target: Target, overview: DeploymentStatusOverview) -> dict[str, Any]:
        return {
            "name": target.key.partition("#")[2],
            "status": overview.status,
            "status_trigger": overview.status_trigger,
            "message": overview.message,
            "deployment_config": _options(target),
            "target_num_replicas": (self._world.deployments[target.key].serving or target).num_replicas,
            "required_resources": _resources(target),
            "replicas": [self._replica(one) for one in self._world.instances_of(target.key)],
            "recent_dead_replicas": [self._replica(one) for one in self._world.dead.get(target.key, ())],
            "autoscaling_detail": self._scaling_of(target.key),
        }


def _options(target: Target) -> dict[str, Any]:
    """As Ray's schema takes them: no null for what was not given, and neither a number nor our own policy for load."""
    given = {name: value for name, value in target.options.items() if value is not None}
    if scaling := given.get("autoscaling_config"):
        given.pop("num_replicas", None)
        policy = str((scaling.get("policy") or {}).get("policy_function", ""))
        if policy.startswith("eagleray."):  # Ray's schema would import it
            given["autoscaling_config"] = {name: value for name, value in scaling.items() if name != "policy"}
    actor = given.get("ray_actor_options")
    if isinstance(actor, dict):
        given["ray_actor_options"] = {name: value for name, value in actor.items() if value is not None}
    return given


def _source(row: ApplicationRow) -> str:
    return "declarative" if row.config else "imperative"


def _route_prefix(row: ApplicationRow, ingress: Target | None) -> str | None:
    if ingress is not None:
        return ingress.config.route_prefix
    return row.build.route_prefix if row.build is not None else None


def _topology(app: str, targets: dict[str, Target]) -> dict[str, Any] | None:
    if not targets:
        return None
    return {
        "app_name": app,
        "nodes": {
            name: {
                "name": name,
                "app_name": app,
                "outbound_deployments": [
                    {"name": child.partition("#")[2], "app_name": child.partition("#")[0]}
                    for child in target.children
                ],
                "is_ingress": target.ingress,
            }
            for name, target in targets.items()
        },
        "ingress_deployment": next((name for name, target in targets.items() if target.ingress), None),
    }


def _resources(target: Target) -> dict[str, float]:
    """What a replica takes, under the names that Ray has for it."""
    demand = target.demand
    found: dict[str, float] = {"CPU": demand.cpus}
    if demand.gpus:
        found["GPU"] = demand.gpus / UNIT
    if demand.memory:
        found["memory"] = demand.memory
    return found | {name: amount / UNIT for name, amount in demand.custom.items()}
