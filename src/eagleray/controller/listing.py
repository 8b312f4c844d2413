"""The routing table as it follows from the world: who may get requests, and what routers must know of the rest."""

from __future__ import annotations

import base64
import json

import msgspec

from eagleray.base import ray_names
from eagleray.reconcile.callers import has_callers
from eagleray.reconcile.instance import Instance
from eagleray.reconcile.target import PROXY_KEYS, Target
from eagleray.reconcile.world import Deployment, World
from eagleray.routing.table import DeploymentEntry, ReplicaEntry, Route, RouterEntry, RoutingTable
from eagleray.rpc.unix import calls_path
from eagleray.spec.router import BY_VALUE, built_in_router


def control_address(runtime_dir: str, ref: str) -> str:
    """Where the controller reaches a child of node."""
    return f"unix:{runtime_dir}/{ref}.sock"


def routing_table(world: World, version: int, runtime_dir: str) -> RoutingTable:
    """Only instances that are up and not stopped are in it.

    A deployment that goes stays for its callers, without a route.
    """
    deployments, routes, ingress = {}, [], {}
    for key, deployment in world.deployments.items():
        target = deployment.kept
        if key in PROXY_KEYS or target is None:
            continue
        app = key.partition("#")[0]
        entry = _entry(world, key, deployment, deployment.goal or target, runtime_dir)
        if deployment.target is not None or entry.replicas or has_callers(world, key):
            deployments[key] = entry
        if deployment.target is not None and target.ingress:
            ingress[app] = key
            if target.config.route_prefix is not None:
                routes.append(Route(prefix=target.config.route_prefix, app=app, deployment=key))
    return RoutingTable(
        version=version,
        routes=tuple(routes),
        deployments=deployments,
        ingress=ingress,
        populated=world.populated,
        leaving=world.is_leaving,
    )


def _entry(
    world: World, key: str, deployment: Deployment, target: Target, runtime_dir: str
) -> DeploymentEntry:
    replicas = tuple(
        ReplicaEntry(
            replica_id=instance.row.unique_id,
            address=calls_path(control_address(runtime_dir, instance.row.ref)),
            max_ongoing=_max_ongoing(instance),
        )
        for instance in world.instances_of(key)
        if instance.is_routed
    )
    # Where a former version has been up its replicas are started again, and requests wait for them.
    is_failed = deployment.row.rollout.halted and not replicas and deployment.row.stable is None
    failed = "it failed to deploy" if is_failed else ""
    entry = deployment_entry(target, replicas, failed)
    load_interval_s = _load_interval_s(deployment.serving or target)  # as those have it who hear of the load
    return msgspec.structs.replace(entry, load_interval_s=load_interval_s)


def deployment_entry(target: Target, replicas: tuple[ReplicaEntry, ...], failed: str = "") -> DeploymentEntry:
    """What routers are told of a deployment."""
    app, _, name = target.key.partition("#")
    return DeploymentEntry(
        app=app,
        name=name,
        replicas=replicas,
        max_queued=target.max_queued_requests,
        failed=failed,
        backpressure_status=target.backpressure_status,
        backpressure_retry_after_s=target.backpressure_retry_after_s,
        is_function=target.is_function,
        router=_router(target),
        load_interval_s=_load_interval_s(target),
    )


def _load_interval_s(target: Target) -> float:
    return target.rules.interval_s if target.rules is not None else 0.0


def _router(target: Target) -> RouterEntry | None:
    """None for the common way."""
    config = target.options.get("request_router_config")
    if config is None:
        return None
    path, kwargs = config["request_router_class"], config["request_router_kwargs"]
    kind = built_in_router(path)
    if kind == "power_of_two":
        return None
    by_value = path.startswith(BY_VALUE)
    return RouterEntry(
        kind=kind,
        path="" if kind or by_value else path,
        code=base64.b64decode(path.removeprefix(BY_VALUE)) if by_value else b"",
        kwargs=json.dumps(kwargs, sort_keys=True),
        sys_path=() if kind or by_value else target.sys_path,
        initial_backoff_s=config["initial_backoff_s"],
        backoff_multiplier=config["backoff_multiplier"],
        max_backoff_s=config["max_backoff_s"],
        as_ray=ray_names.VARIABLE in target.env_vars,
    )


def _max_ongoing(instance: Instance) -> int:
    """While it is being told a new limit the replica may know either; more than it takes is merely rejected."""
    return (instance.next_config or instance.row.config).max_ongoing_requests
