"""Events of single instances: each moves one instance through the table and tells its deployment what that means.

Reports may come late: for an instance that is gone they change nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from eagleray.reconcile import events as e
from eagleray.reconcile import recount, recycling
from eagleray.reconcile.instance import LISTED, Instance, InstanceState, Trigger
from eagleray.reconcile.rollout import (
    STABLE_S,
    Problem,
    Rollout,
    after_death,
    after_start_failure,
    after_up,
    crash_delay_s,
    taken_back,
)
from eagleray.reconcile.scaling import with_count
from eagleray.reconcile.target import Target

if TYPE_CHECKING:
    from eagleray.reconcile.world import Deployment, World

HEALTH_MISSES = 3
"""Failed health checks in a row after which a replica is replaced (surface 6.4)."""

FORGET_S = 60.0
"""Quick deaths further apart than this are no crash loop."""

_NO_DEATHS = (0, -math.inf)

_CRASHES = frozenset((Trigger.FAILED, Trigger.REJECTED, Trigger.LOST, Trigger.EXITED))


def happened(world: World, event: e.Happened, now: float) -> set[str]:
    instance = world.instances.get(event.ref)
    if instance is None:
        return set()
    before = instance.state
    if not instance.fire(event.trigger, event.reason):
        return set()
    owner = instance.row.owner
    deployment = world.deployments.get(owner)
    if event.trigger is Trigger.READY:
        _came_up(world, instance, deployment, now)
    elif event.trigger is Trigger.RECONFIGURED:
        instance.row = msgspec.structs.replace(
            instance.row, config=instance.next_config or instance.row.config
        )
    elif event.trigger is Trigger.REFUSED and deployment is not None:
        _refused(world, instance, deployment, event.reason)
    elif deployment is not None and event.trigger in _CRASHES:
        _crashed(world, instance, deployment, before, event.reason, now)
    world.put_instance(instance)
    if instance.state is InstanceState.STOPPED:
        # Callers that are gone let their callees go, and what was held may be what another deployment waits for.
        return {owner, *world.deployments, *_system(world)}
    return {owner}


def born(world: World, event: e.Born, now: float) -> set[str]:
    instance = world.instances.get(event.ref)
    if instance is None:
        return set()
    instance.is_born = True
    instance.row = msgspec.structs.replace(
        instance.row, pid=event.pid, http_address=event.http_address, started_at=event.at
    )
    world.put_instance(instance)
    if instance.state is InstanceState.KILLING:
        instance.ordered = None  # the signal may have come before the process
    return {instance.row.owner}


def expired(world: World, event: e.Expired, now: float) -> set[str]:
    instance = world.instances.get(event.ref)
    if instance is None or instance.state not in LISTED or instance.row.kind != "replica":
        return set()
    _expire(world, instance, event.reason)
    return {instance.row.owner}


def _expire(world: World, instance: Instance, reason: str) -> None:
    if reason and not instance.row.expired:
        instance.row = msgspec.structs.replace(instance.row, expired=reason)
        world.put_instance(instance)


def suspended(world: World, event: e.Suspended, now: float) -> set[str]:
    instance = world.instances.get(event.ref)
    if instance is None:
        return set()
    instance.suspended_at = now if event.stopped else None
    return {instance.row.owner}


def check_begun(world: World, event: e.CheckBegun, now: float) -> set[str]:
    world.instances[event.ref].checking = True
    return set()


def health_checked(world: World, event: e.HealthChecked, now: float) -> set[str]:
    instance = world.instances.get(event.ref)
    if instance is None or instance.state not in LISTED:
        return set()
    deployment = world.deployments.get(instance.row.owner)
    instance.checking = False
    instance.check_at = _next_check(instance, deployment, now)
    if not event.error:
        instance.misses = 0
        _expire(world, instance, recycling.outgrown(event.rss_bytes, _limits(instance, deployment)))
        return {instance.row.owner}
    instance.misses += 1
    if instance.misses >= HEALTH_MISSES:
        instance.fire(Trigger.RETIRE, event.error)
        world.put_instance(instance)
        if deployment is not None:
            _died(world, instance, deployment, event.error, now)
    return {instance.row.owner}


def reconfigure_decided(world: World, event: e.ReconfigureDecided, now: float) -> set[str]:
    instance = world.instances[event.ref]
    instance.next_config = event.config
    instance.fire(Trigger.RECONFIGURE)
    instance.ordered = instance.state  # the plan that decided it also carries the command
    world.put_instance(instance)
    return {instance.row.owner}


def ordered(world: World, event: e.Ordered, now: float) -> set[str]:
    instance = world.instances[event.ref]
    instance.ordered = instance.state
    instance.due_at = None if event.within_s is None else now + event.within_s
    return {instance.row.owner}


def adopted(world: World, event: e.Adopted, now: float) -> set[str]:
    """The controller has come back: what lives is greeted, what does not is gone without being blamed for it."""
    dirty = set(world.deployments) | set(world.applications) | _system(world)
    for ref, instance in list(world.instances.items()):
        if ref in event.alive:
            instance.is_born = instance.is_adopted = True
            instance.fire(Trigger.ADOPT)
            row = instance.row
            instance.row = msgspec.structs.replace(
                row,
                pid=event.alive[ref],
                http_address=event.addresses.get(ref, row.http_address),
                started_at=row.started_at or event.at,
            )
        else:
            instance.fire(Trigger.EXITED, "it ended while the controller was down")
        world.put_instance(instance)
        dirty.add(instance.row.owner)
    return dirty


def _system(world: World) -> set[str]:
    return {"#"} if world.is_closing or world.is_draining else set()


def _came_up(world: World, instance: Instance, deployment: Deployment | None, now: float) -> None:
    if instance.state is not InstanceState.RUNNING:
        return
    instance.misses = 0
    instance.up_since = now
    if not instance.row.up_at:
        instance.row = msgspec.structs.replace(instance.row, up_at=now)
    instance.check_at = _next_check(instance, deployment, now)
    target = _target_of(instance, deployment)
    if deployment is not None and target is not None:
        _put_rollout(world, deployment, after_up(deployment.row.rollout))


def _crashed(
    world: World, instance: Instance, deployment: Deployment, before: InstanceState, reason: str, now: float
) -> None:
    target = _target_of(instance, deployment)
    if before in LISTED:
        _died(world, instance, deployment, reason, now)
    elif before is InstanceState.STARTING:
        _count_death(deployment, instance.row.version, now)
        if target is not None:
            after = after_start_failure(deployment.row.rollout, target, reason)
            _put_rollout(world, deployment, after)
            _take_back(world, deployment, target, now)


def _refused(world: World, instance: Instance, deployment: Deployment, reason: str) -> None:
    """A configuration that one replica refuses is not tried on the others: the update is given up."""
    goal = deployment.goal
    if goal is not None and goal is not deployment.target and goal.config == instance.next_config:
        # It has taken the bad configuration in and does not find its way back: a fresh one does.
        instance.row = msgspec.structs.replace(instance.row, expired=f"it refused to go back: {reason}")
        return
    target = _target_of(instance, deployment)
    if target is not None and target.config == instance.next_config:
        rollout = after_start_failure(deployment.row.rollout, target, reason)
        _put_rollout(world, deployment, msgspec.structs.replace(rollout, halted=True))


def _died(world: World, instance: Instance, deployment: Deployment, reason: str, now: float) -> None:
    target = _target_of(instance, deployment)
    version = instance.row.version
    if instance.up_since is not None and now - instance.up_since < STABLE_S:
        _count_death(deployment, version, now)
    else:
        deployment.deaths[version] = 1, now
    if target is not None:
        _put_rollout(world, deployment, after_death(deployment.row.rollout, target, reason))
        _take_back(world, deployment, target, now)


def _count_death(deployment: Deployment, version: str, now: float) -> None:
    count, last_at = deployment.deaths.get(version, _NO_DEATHS)
    deployment.deaths[version] = count + 1 if now - last_at < FORGET_S else 1, now


def _take_back(world: World, deployment: Deployment, target: Target, now: float) -> None:
    """A crash loop soon after an update was reached: the version before is the goal again, if that was asked for.

    What it calls must still be there: a deployment that the update has dropped is not brought back.
    """
    row, former = deployment.row, deployment.row.former
    count, _ = deployment.deaths.get(target.version, _NO_DEATHS)
    if former is None or now > row.proven_at or count < target.failure_budget:
        return
    if any(child not in world.deployments for child in former.children):
        return
    if former.rules is not None:
        former = with_count(former, former.rules.clip(target.num_replicas))
    rollout = taken_back(row.rollout, count)
    deployment.deaths.clear()
    world.put_deployment(msgspec.structs.replace(row, stable=former, former=None))
    recount.given_up(world, row.key, rollout)


def retry_at(deployment: Deployment, target: Target) -> float:
    """When the next replica of `target` may start. What another version has suffered delays it not."""
    count, last_at = deployment.deaths.get(target.version, _NO_DEATHS)
    return last_at + crash_delay_s(count, target.num_replicas)


def calm_at(deployment: Deployment, target: Target, instances: list[Instance]) -> float:
    """When a crash loop is over, unless another replica dies before: that they are up again says nothing yet."""
    count, _ = deployment.deaths.get(target.version, _NO_DEATHS)
    is_sick = deployment.row.rollout.problem is Problem.HEALTH and not target.endless
    if not is_sick or count <= max(target.num_replicas, 1):
        return -math.inf
    return max((one.up_since or 0.0 for one in instances if one.is_listed), default=-math.inf) + STABLE_S


def _target_of(instance: Instance, deployment: Deployment | None) -> Target | None:
    """The present target, if the instance is of its version."""
    target = deployment.target if deployment is not None else None
    return target if target is not None and target.version == instance.row.version else None


def _limits(instance: Instance, deployment: Deployment | None) -> Target | None:
    return deployment.target_of(instance.row.version) if deployment is not None else None


def _put_rollout(world: World, deployment: Deployment, rollout: Rollout) -> None:
    if rollout != deployment.row.rollout:
        if rollout.halted and not deployment.row.rollout.halted:
            deployment.deaths.clear()  # they were the failing version's, and must not delay the good one
            recount.given_up(world, deployment.row.key, rollout)
        else:
            world.put_deployment(msgspec.structs.replace(deployment.row, rollout=rollout))


def _next_check(instance: Instance, deployment: Deployment | None, now: float) -> float | None:
    """Checks fall on whole seconds where the period allows, so that many replicas share one wake-up."""
    target = _limits(instance, deployment)
    if target is None:
        return None
    period = target.health_check_period_s
    return math.ceil(now + period) if period >= 1 else now + period
