"""Who calls a deployment, as far as it decides when one that is not wanted any more may go.

An update may drop a deployment that the version before calls. Its replicas stay until the callers have gone, and for as
long as an update that was given up leaves callers of the old version in charge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eagleray.reconcile.instance import Instance
    from eagleray.reconcile.world import Deployment, World


def has_callers(world: World, key: str) -> bool:
    """Whether replicas hold handles of this deployment, or will, unless it calls theirs in turn."""
    if is_wanted_by_others(world, key) or _may_be_wanted(world, key):
        return True
    callees = _reach(world, key)
    return any(
        key in _called_by(instance, deployment)
        for other, deployment in world.deployments.items()
        if other not in callees
        for instance in world.instances_of(other)
    )


def is_wanted_by_others(world: World, key: str) -> bool:
    """Whether replicas that are yet to be started will call it: those of a version that an update came back to."""
    return not world.is_draining and any(
        key in _children_of(deployment) for other, deployment in world.deployments.items() if other != key
    )


def _may_be_wanted(world: World, key: str) -> bool:
    """Whether replicas that an update under way may yet start again, those of the version before, will call it."""
    return not world.is_draining and any(
        deployment.fallback is not None and key in deployment.fallback.children
        for other, deployment in world.deployments.items()
        if other != key
    )


def _called_by(instance: Instance, deployment: Deployment) -> tuple[str, ...]:
    target = deployment.target
    if target is not None and target.version == instance.row.version:
        return target.children
    return instance.row.children


def _children_of(deployment: Deployment) -> tuple[str, ...]:
    """What its next replica will call."""
    serving = deployment.serving
    return () if serving is None else serving.children


def _reach(world: World, key: str) -> set[str]:
    """The deployment and all that it calls, directly or not."""
    seen, todo = {key}, [key]
    while todo:
        other = todo.pop()
        called = {child for instance in world.instances_of(other) for child in instance.row.children}
        deployment = world.deployments.get(other)
        if deployment is not None and deployment.target is None and deployment.kept is not None:
            called.update(deployment.kept.children)  # what its next replica would call
        todo += called - seen
        seen |= called
    return seen
