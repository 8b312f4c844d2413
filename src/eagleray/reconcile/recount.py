"""The count of a deployment changes without a deploy: its load asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from eagleray.reconcile import events as e
from eagleray.reconcile.rollout import after_scaling
from eagleray.reconcile.scaling import decided, with_count

if TYPE_CHECKING:
    from eagleray.reconcile.world import World


def autoscaled(world: World, event: e.Autoscaled, now: float) -> set[str]:
    deployment = world.deployments.get(event.key)
    target = deployment.kept if deployment is not None else None
    if deployment is None or target is None or deployment.row.scaling is None:
        return set()
    row, before = deployment.row, target.num_replicas
    # A deploy with other bounds may have come between the decision and now.
    count = event.num_replicas if target.rules is None else target.rules.clip(event.num_replicas)
    if before == count:
        return set()
    scaling = decided(deployment.row.scaling, count, before, event.reason, event.at)
    if deployment.target is None:  # an update has dropped it, and replicas of the version before call it
        world.put_deployment(msgspec.structs.replace(row, scaling=scaling, stable=with_count(target, count)))
        return {event.key}
    rollout = after_scaling(row.rollout, before, count)
    stable = row.stable
    if rollout.halted and stable is not None:
        stable = with_count(stable, count)  # it is what serves
    deployment.target = with_count(target, count)
    world.put_deployment(msgspec.structs.replace(row, rollout=rollout, scaling=scaling, stable=stable))
    return {event.key}
