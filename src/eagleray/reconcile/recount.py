"""The count of a deployment changes without a deploy: its load asks for it, or its update is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from eagleray.reconcile import events as e
from eagleray.reconcile.rollout import Rollout, after_scaling
from eagleray.reconcile.scaling import counted, decided, taken_back, with_count

if TYPE_CHECKING:
    from eagleray.reconcile.world import World


def autoscaled(world: World, event: e.Autoscaled, now: float) -> set[str]:
    deployment = world.deployments.get(event.key)
    serving = deployment.serving or deployment.kept if deployment is not None else None
    if deployment is None or serving is None or serving.rules is None:
        return set()
    row, before = deployment.row, serving.num_replicas
    # A deploy with other bounds may have come between the decision and now.
    count = serving.rules.clip(event.num_replicas)
    if before == count:
        return set()
    scaling = decided(row.scaling, serving.rules, count, before, event.reason, event.at)
    if deployment.target is None:  # an update has dropped it, and replicas of the version before call it
        world.put_deployment(msgspec.structs.replace(row, scaling=scaling, stable=with_count(serving, count)))
        return {event.key}
    rollout = after_scaling(row.rollout, before, count)
    stable = row.stable
    if serving is deployment.target:
        deployment.target = with_count(serving, count)
    else:
        stable = with_count(serving, count)
    world.put_deployment(msgspec.structs.replace(row, rollout=rollout, scaling=scaling, stable=stable))
    _recount_declared(world, event.key)
    return {event.key}


def given_up(world: World, key: str, rollout: Rollout) -> None:
    """`rollout` gives the update up: the last good version, if there is one, is what load is counted for again."""
    row = world.deployments[key].row
    stable, scaling = row.stable, row.scaling
    if stable is not None:
        stable, scaling = taken_back(stable, scaling)
    world.put_deployment(msgspec.structs.replace(row, rollout=rollout, scaling=scaling, stable=stable))
    _recount_declared(world, key)


def _recount_declared(world: World, key: str) -> None:
    """The declared version, while another one serves, has the count that a restart would find for it."""
    deployment = world.deployments[key]
    if deployment.target is not None and deployment.serving is not deployment.target:
        deployment.target, _ = counted(deployment.target, deployment.row.stable, deployment.row.scaling)
