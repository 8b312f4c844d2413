"""Follows a deploy until it has an outcome: what `serve.run` and `eagleray run` wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from eagleray.base.clock import wall_time_s
from eagleray.controller.controller import Controller
from eagleray.reconcile.deployment import shortage_of
from eagleray.reconcile.instance import InstanceState
from eagleray.reconcile.placement import cpu_warning
from eagleray.reconcile.status import application_overview, preparing_message
from eagleray.reconcile.world import World
from eagleray.spec.status import ApplicationStatus, ApplicationStatusOverview
from eagleray.wire.control import Progress

_LOOK_S = 1.0
"""Between two looks at a deploy in which nothing changes."""

_LONG_S = 5.0
"""A start that takes longer is told of."""


async def follow_applications(
    controller: Controller, names: Iterable[str], verbose: bool = False
) -> AsyncIterator[Progress]:
    """What is worth telling while the named applications come up, with `verbose` every step; the last one is `done`.

    `running` means that every router knows it: a request sent now is answered.
    """
    world = controller.world
    generations = {name: _generation(world, name) for name in names}
    told: set[str] = set()
    while True:
        steps = _steps(world, generations) if verbose else []
        for message in [*steps, *_remarks(world, generations)]:
            if message not in told:
                told.add(message)
                yield Progress(message=message)
        outcome = _outcome(world, generations)
        if outcome is not None:
            break
        try:
            await asyncio.wait_for(controller.changed(), _LOOK_S)
        except TimeoutError:  # what takes long is told although nothing changes
            pass
    if outcome.outcome == "running":
        await controller.publisher.wait_known(controller.publisher.table.version)
    yield outcome


def _outcome(world: World, generations: dict[str, int]) -> Progress | None:
    """None while some application is still coming up; the first failure decides."""
    pending = False
    for name, generation in generations.items():
        row = world.applications.get(name)
        if row is None or row.deleting or generation == 0:
            return Progress(
                done=True, outcome="deleted", app=name, message=f"Application '{name}' was deleted."
            )
        if row.generation != generation:
            text = f"Application '{name}' was replaced by a newer deploy."
            return Progress(done=True, outcome="deleted", app=name, message=text)
        overview = application_overview(world, name)
        if overview.status is ApplicationStatus.DEPLOY_FAILED:
            return Progress(done=True, outcome="failed", app=name, message=_failure(overview))
        pending = pending or overview.status is not ApplicationStatus.RUNNING
    return None if pending else Progress(done=True, outcome="running")


def _generation(world: World, name: str) -> int:
    row = world.applications.get(name)
    return 0 if row is None else row.generation


def _failure(overview: ApplicationStatusOverview) -> str:
    """The application's message and those of its failed deployments, which carry the user's traceback."""
    details = [
        f"Deployment '{name}': {one.message}"
        for name, one in overview.deployments.items()
        if one.status == "DEPLOY_FAILED" and one.message
    ]
    return "\n".join([overview.message, *details])


def _steps(world: World, names: Iterable[str]) -> list[str]:
    """How far each application is, and the last word of a replica that failed to start."""
    steps = []
    for name in names:
        row = world.applications.get(name)
        if row is not None and row.build is not None:
            steps.append(f"'{row.build.import_path}' is being imported.")
            continue
        for key in world.deployments_of(name):
            one = world.deployments[key]
            if one.target is None:
                continue
            deployment, rollout, wanted = key.partition("#")[2], one.row.rollout, one.target.num_replicas
            mine = [inst for inst in world.instances_of(key) if inst.row.version == one.target.version]
            up = sum(instance.is_listed for instance in mine)
            steps.append(f"Deployment '{deployment}': {up} of {wanted} replicas are up.")
            if rollout.failures and rollout.error:
                last = rollout.error.strip().rpartition("\n")[2]
                steps.append(
                    f"Deployment '{deployment}': a replica failed to start ({rollout.failures}): {last}"
                )
    return steps


def _remarks(world: World, generations: dict[str, int]) -> list[str]:
    """Why it takes long, and what the user should know though nothing fails."""
    remarks = []
    for name in generations:
        row = world.applications.get(name)
        if row is not None and row.build is not None and (told := preparing_message(world, row.build)):
            remarks.append(f"Application '{name}': {told}")
        for key in world.deployments_of(name):
            remarks += _deployment_remarks(world, key)
    targets = [one.target for one in world.deployments.values() if one.target is not None]
    if warning := cpu_warning(world.supply, [(target.demand, target.num_replicas) for target in targets]):
        remarks.append(warning)
    return remarks


def _deployment_remarks(world: World, key: str) -> list[str]:
    deployment = world.deployments[key]
    name = key.partition("#")[2]
    remarks = []
    if shortage := shortage_of(world, deployment):
        remarks.append(f"Deployment '{name}' waits for resources: a replica {shortage}.")
    if deployment.target is not None and (told := world.preparing.get(deployment.target.environment)):
        remarks.append(f"Deployment '{name}': {told}")
    since = wall_time_s() - _LONG_S
    if any(
        one.state is InstanceState.STARTING and 0 < one.row.started_at < since
        for one in world.instances_of(key)
    ):
        remarks.append(
            f"Deployment '{name}': its constructor has not returned for {_LONG_S:g} s. If it hangs, press Ctrl-C and "
            f"look at what it waits for, such as a download or a lock."
        )
    return remarks
