"""What people are told, derived from the world whenever they ask; nothing of it is stored.

The meaning of each status is that of Ray Serve (surface 5.6), where the worst deployment decides for its application.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from eagleray.base.secrets import hide_text
from eagleray.reconcile.applications import ApplicationRow
from eagleray.reconcile.deployment import shortage_of
from eagleray.reconcile.events import BuildRequest
from eagleray.reconcile.instance import COUNTED, InstanceState
from eagleray.reconcile.rollout import Goal, Problem, Rollout, failure_message
from eagleray.reconcile.target import PROXY_KEY, PROXY_KEYS, Target
from eagleray.reconcile.world import Deployment, World
from eagleray.spec.environment import recipe_of
from eagleray.spec.status import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
    ServeStatus,
)

_S, _T = DeploymentStatus, DeploymentStatusTrigger

_REPLICA_STATES = {
    InstanceState.STARTING: ReplicaState.STARTING,
    InstanceState.RUNNING: ReplicaState.RUNNING,
    InstanceState.UPDATING: ReplicaState.UPDATING,
    InstanceState.RECOVERING: ReplicaState.RECOVERING,
    InstanceState.STOPPED: ReplicaState.STOPPED,
}

_COMPLETED = {
    Goal.UPDATE: _T.CONFIG_UPDATE_COMPLETED,
    Goal.UPSCALE: _T.UPSCALE_COMPLETED,
    Goal.DOWNSCALE: _T.DOWNSCALE_COMPLETED,
}

_UNDER_WAY = {Goal.UPDATE: _S.UPDATING, Goal.UPSCALE: _S.UPSCALING, Goal.DOWNSCALE: _S.DOWNSCALING}


def serve_status(world: World) -> ServeStatus:
    return ServeStatus(
        proxies={
            instance.row.unique_id: proxy_status(instance.state)
            for key in PROXY_KEYS
            for instance in world.instances_of(key)
        },
        applications={name: application_overview(world, name) for name in world.applications},
        target_capacity=world.declared.get("target_capacity"),
    )


def application_overview(world: World, name: str) -> ApplicationStatusOverview:
    row = world.applications[name]
    deployments = {
        key.partition("#")[2]: deployment_overview(world, key) for key in world.deployments_of(name)
    }
    status, message = application_status(row, deployments, world.preparing)
    return ApplicationStatusOverview(status, message, row.deployed_at, deployments)


def application_status(
    row: ApplicationRow,
    deployments: dict[str, DeploymentStatusOverview],
    preparing: Mapping[str, str] = MappingProxyType({}),
) -> tuple[ApplicationStatus, str]:
    """The worst of its deployments, but for deletion and building, which concern the application itself."""
    if row.deleting:
        return ApplicationStatus.DELETING, ""
    if row.error:
        return ApplicationStatus.DEPLOY_FAILED, hide_text(row.error)
    if row.build is not None:  # what its deployments are now is the version before
        return ApplicationStatus.DEPLOYING, _preparing_message(preparing, row.build)
    failed = [name for name, one in deployments.items() if one.status is _S.DEPLOY_FAILED]
    if failed:
        return ApplicationStatus.DEPLOY_FAILED, f"Failed to update the deployments {failed}."
    unhealthy = [name for name, one in deployments.items() if one.status is _S.UNHEALTHY]
    if unhealthy:
        return ApplicationStatus.UNHEALTHY, f"The deployments {unhealthy} are UNHEALTHY."
    if any(
        one.status is not _S.HEALTHY and one.status_trigger is not _T.AUTOSCALING
        for one in deployments.values()
    ):
        return ApplicationStatus.DEPLOYING, ""
    return ApplicationStatus.RUNNING, ""


def preparing_message(world: World, build: BuildRequest) -> str:
    """That the environment of a builder is being made; "" when it is not."""
    return _preparing_message(world.preparing, build)


def _preparing_message(preparing: Mapping[str, str], build: BuildRequest) -> str:
    if not (preparing and build.runtime_env):
        return ""
    return preparing.get(recipe_of(json.loads(build.runtime_env)), "")


def deployment_overview(world: World, key: str) -> DeploymentStatusOverview:
    deployment = world.deployments[key]
    counts = Counter(replica_state(instance.state) for instance in world.instances_of(key))
    status, trigger = _deployment_status(world, deployment)
    return DeploymentStatusOverview(status, trigger, dict(counts), hide_text(_message(world, deployment)))


def proxy_error(world: World, key: str = PROXY_KEY) -> str:
    """Why no proxy of a system deployment listens, empty when one does or is about to."""
    proxies = world.deployments.get(key)
    if proxies is None or any(instance.is_listed for instance in world.instances_of(key)):
        return ""
    return proxies.row.rollout.error


def _deployment_status(
    world: World, deployment: Deployment
) -> tuple[DeploymentStatus, DeploymentStatusTrigger]:
    target, rollout = deployment.target, deployment.row.rollout
    if target is None:
        return _S.UPDATING, _T.DELETING
    if rollout.problem is Problem.NONE:
        if rollout.reached:
            return _S.HEALTHY, _T.UNSPECIFIED if rollout.recovered else _COMPLETED[rollout.goal]
        return _UNDER_WAY[rollout.goal], _T.AUTOSCALING if rollout.auto else _T.CONFIG_UPDATE_STARTED
    return _failing(rollout, target)


def _failing(rollout: Rollout, target: Target) -> tuple[DeploymentStatus, DeploymentStatusTrigger]:
    is_startup = rollout.problem is Problem.STARTUP
    trigger = _T.REPLICA_STARTUP_FAILED if is_startup else _T.HEALTH_CHECK_FAILED
    if rollout.halted:
        return _S.DEPLOY_FAILED, _T.REPLICA_STARTUP_FAILED
    if rollout.reached:
        return _S.UNHEALTHY, trigger
    if is_startup and rollout.failures < target.failure_budget:
        return _UNDER_WAY[rollout.goal], _T.AUTOSCALING if rollout.auto else _T.CONFIG_UPDATE_STARTED
    return (_S.DEPLOY_FAILED if rollout.goal is Goal.UPDATE else _S.UNHEALTHY), trigger


def _message(world: World, deployment: Deployment) -> str:
    if deployment.target is None:
        return ""
    goal = deployment.goal
    back_to = goal if goal is not deployment.target else None
    told = failure_message(deployment.row.rollout, deployment.target, back_to)
    shortage = shortage_of(world, deployment)
    waiting = f"Waiting for resources: a replica {shortage}." if shortage else ""
    waiting = waiting or world.preparing.get(deployment.target.environment, "")
    if not waiting:
        return told
    return f"{waiting} {told}" if told else waiting


def replica_state(state: InstanceState) -> ReplicaState:
    """What users are told of a replica in this state."""
    return _REPLICA_STATES.get(state, ReplicaState.STOPPING)


def proxy_status(state: InstanceState) -> ProxyStatus:
    """What users are told of a proxy in this state."""
    if state is InstanceState.STARTING:
        return ProxyStatus.STARTING
    if state in COUNTED:
        return ProxyStatus.HEALTHY
    return ProxyStatus.UNHEALTHY if state is InstanceState.KILLING else ProxyStatus.DRAINING
