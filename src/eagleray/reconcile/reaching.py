"""A target was reached, has lasted, or is dropped: which versions of a deployment are remembered.

The last target that was reached is what an update that fails goes back to. The one before it is kept for `PROBATION_S`,
in which replicas that do not last take the update back, where that was asked for (`lifecycle`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from eagleray.reconcile import events as e
from eagleray.reconcile.rollout import PROBATION_S, after_reached
from eagleray.reconcile.scaling import with_count

if TYPE_CHECKING:
    from eagleray.reconcile.world import Deployment, DeploymentRow, World


def reached(world: World, event: e.Reached, now: float) -> set[str]:
    deployment = world.deployments[event.key]
    row, target, stable = deployment.row, deployment.target, deployment.row.stable
    former, proven_at = row.former, row.proven_at
    rollout = after_reached(row.rollout)
    if rollout.was_up:
        if target is not None and stable is not None and stable.version != target.version:
            former, proven_at = (stable, now + PROBATION_S) if target.auto_rollback else (None, 0.0)
        stable = target
    # Else none is wanted yet: a version of which no replica has run may turn out not to start.
    world.put_deployment(
        msgspec.structs.replace(row, rollout=rollout, stable=stable, former=former, proven_at=proven_at)
    )
    # What the version before called may go now.
    return {event.key, *world.deployments_of(event.key.partition("#")[0])}


def proven(world: World, event: e.Proven, now: float) -> set[str]:
    deployment = world.deployments[event.key]
    world.put_deployment(msgspec.structs.replace(deployment.row, former=None, proven_at=0.0))
    return {event.key}


def drop(world: World, deployment: Deployment, row: DeploymentRow) -> None:
    """It stays at the strength that it has for those who still call it. `row` is to be its row."""
    target, stable = deployment.target, row.stable
    if target is not None and row.rollout.reached and not row.rollout.was_up:
        row = msgspec.structs.replace(
            row, stable=target
        )  # nothing of it has run yet, and it may yet be called
    elif target is not None and stable is not None and stable.version == target.version:
        row = msgspec.structs.replace(row, stable=with_count(stable, target.num_replicas))
    if row != deployment.row:
        world.put_deployment(row)
