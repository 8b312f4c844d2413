"""Brings the instances of one deployment to its target: start what is missing, replace, reconfigure, drain, check.

New replicas come first, a batch at a time, and old ones go as new ones are up, so that capacity never falls below the
target; only when resources leave no room for a new one does an old one go first. An update that was given up keeps the
old ones, or is taken back. A replica that has expired is replaced like one of an old version.
"""

from __future__ import annotations

from collections.abc import Sequence

from eagleray.reconcile import commands as c
from eagleray.reconcile import events as e
from eagleray.reconcile.callers import has_callers, is_wanted_by_others
from eagleray.reconcile.commands import Plan
from eagleray.reconcile.instance import COUNTED, GOING, LISTED, Instance, InstanceRow, InstanceState, Trigger
from eagleray.reconcile.leaving import may_leave
from eagleray.reconcile.lifecycle import calm_at, retry_at
from eagleray.reconcile.placement import Allocation, Shortage, place
from eagleray.reconcile.recycling import ages_out_at
from eagleray.reconcile.rollout import PROBATION_S
from eagleray.reconcile.target import Target
from eagleray.reconcile.world import Deployment, World

SIGKILL = 9

DRAIN_GRACE_S = 2.0
"""Beyond its own time-out a draining replica gets this long to report and to run `__del__`."""

SUSPENDED_S = 2.0
"""A process that was stopped by a signal (SIGSTOP) may go on within this time; else it is killed and replaced."""

STOP_GRACE_S = 3.0
"""A process that has drained ends by itself; one that does not within this time is killed."""

_S = InstanceState


def reconcile_deployment(world: World, key: str, now: float) -> Plan:
    plan = Plan()
    deployment = world.deployments.get(key)
    instances = world.instances_of(key)
    for instance in instances:
        _order(plan, world, instance, deployment, now)
    if any(isinstance(event, e.Happened) for event in plan.events):
        return plan  # who is there changes first
    if deployment is None:
        _retire(plan, instances)
    elif deployment.target is None:
        _let_go(plan, world, deployment, instances, now)
    elif world.is_draining:
        if may_leave(world, key) and not has_callers(world, key):
            _retire(plan, instances)
    else:
        _converge(plan, world, deployment, deployment.target, instances, now)
    return plan


# ---- single instances ---------------------------------------------------------------------------------------------


def _order(plan: Plan, world: World, instance: Instance, deployment: Deployment | None, now: float) -> None:
    """Gives the order of the instance's state, once; watches its deadline and its health."""
    ref, state = instance.row.ref, instance.state
    if instance.due_at is not None:
        if now >= instance.due_at:
            plan.events.append(e.Happened(ref, Trigger.OVERDUE))
            return
        plan.wake(instance.due_at)
    if instance.suspended_at is not None and state not in (_S.STOPPING, _S.KILLING):
        if now >= (at := instance.suspended_at + SUSPENDED_S):
            reason = f"its process was stopped by a signal and did not go on within {SUSPENDED_S:g} s"
            plan.events.append(e.Happened(ref, Trigger.LOST, reason))
            return
        plan.wake(at)
    if instance.ordered is not state:
        _order_state(plan, world, instance, deployment)
    if state in LISTED and instance.check_at is not None and not instance.checking:
        target = deployment.target_of(instance.row.version) if deployment is not None else None
        if target is not None and now >= instance.check_at:
            plan.events.append(e.CheckBegun(ref))
            plan.commands.append(c.CheckHealth(ref, target.health_check_timeout_s))
        elif target is not None:
            plan.wake(instance.check_at)
    if state in LISTED and not instance.row.expired and deployment is not None:
        _order_successor(plan, instance, deployment.target_of(instance.row.version), now)


def _order_successor(plan: Plan, instance: Instance, target: Target | None, now: float) -> None:
    """Notices that a replica has grown too old."""
    ends_at = ages_out_at(instance.row, target) if target is not None else None
    if target is None or ends_at is None:
        return
    if now >= ends_at:
        plan.events.append(e.Expired(instance.row.ref, f"it is older than {target.max_replica_age_s} s"))
    else:
        plan.wake(ends_at)


def _order_state(plan: Plan, world: World, instance: Instance, deployment: Deployment | None) -> None:
    ref, state = instance.row.ref, instance.state
    command: c.Command | None = None
    within: float | None = None
    if state is _S.STARTING:
        command = c.GreetInstance(ref) if instance.is_born else c.StartInstance(ref)
    elif state is _S.RECOVERING:
        command = c.GreetInstance(ref)
    elif state is _S.DRAINING:
        target = deployment.target_of(instance.row.version) if deployment is not None else None
        # An option that no replica is told: the newest value counts, also for replicas that started before.
        timeout = (target or instance.row).graceful_shutdown_timeout_s
        if instance.row.kind == "proxy":  # what replicas may still finish passes through it
            kept = [one.kept for one in world.deployments.values()]
            timeout = max([timeout, *(one.graceful_shutdown_timeout_s for one in kept if one is not None)])
        command, within = c.DrainInstance(ref, timeout), timeout + (DRAIN_GRACE_S if timeout else 0.0)
    elif state is _S.STOPPING:
        within = STOP_GRACE_S
    elif state is _S.KILLING:
        command = c.StopInstance(ref, SIGKILL)
    if command is not None or within is not None:
        plan.events.append(e.Ordered(ref, within))
    if command is not None:
        plan.commands.append(command)


def _retire(plan: Plan, instances: list[Instance], reason: str = "") -> None:
    plan.events += [e.Happened(one.row.ref, one.way_out, reason) for one in instances if one.state in COUNTED]


def _let_go(plan: Plan, world: World, deployment: Deployment, instances: list[Instance], now: float) -> None:
    """Dropped: it is kept up for as long as others call it, and goes before that only if it is in the way."""
    key, stable = deployment.row.key, deployment.row.stable
    if is_wanted_by_others(world, key):
        _hold(plan, world, deployment, instances, now)
    elif not has_callers(world, key):
        if instances:
            _retire(plan, instances)
        else:
            plan.events.append(e.DeploymentGone(key))
    elif _is_in_the_way(world, key):
        _retire(plan, instances)
    elif stable is None:
        if not instances:  # it has never been up, and nobody will bring it up any more
            plan.events.append(e.DeploymentGone(key))
    elif not world.is_draining:
        # What is short of replicas goes first: else this one would start, be in the way, go, and start again.
        short = (one for one in world.deployments.values() if _is_short(world, one))
        _hold(plan, world, deployment, instances, now, beside=[one.target for one in short if one.target])


def _is_in_the_way(world: World, key: str) -> bool:
    """Whether it holds what another deployment waits for: then its callers cannot be waited for, who may wait too."""
    return any(not one.row.allocation.is_empty for one in world.instances_of(key)) and any(
        shortage_of(world, other) for other in world.deployments.values()
    )


# ---- the deployment -------------------------------------------------------------------------------------------------


def _converge(
    plan: Plan, world: World, deployment: Deployment, target: Target, instances: list[Instance], now: float
) -> None:
    goal, row = deployment.goal, deployment.row
    if row.former is not None:
        if now < row.proven_at <= now + PROBATION_S:
            plan.wake(row.proven_at)
        else:  # also when the machine has been started anew, and its clock with it
            plan.events.append(e.Proven(target.key))
    if goal is not None and goal is not target:
        _steer(plan, world, deployment, goal, instances, now)
    elif deployment.row.rollout.halted:
        _hold(plan, world, deployment, instances, now)
    elif _steer(plan, world, deployment, target, instances, now):
        rollout = deployment.row.rollout
        is_stable = deployment.row.stable == target or not rollout.was_up
        if not rollout.reached or rollout.problem or not is_stable:
            if now < (at := calm_at(deployment, target, instances)):
                plan.wake(at)
            else:
                plan.events.append(e.Reached(target.key))


def _steer(
    plan: Plan, world: World, deployment: Deployment, goal: Target, instances: list[Instance], now: float
) -> bool:
    """The next step towards `goal`; says whether it has been reached."""
    counted = [one for one in instances if one.state in COUNTED]
    current = [one for one in counted if _is_fit(one, goal)]
    old = [one for one in counted if not _is_fit(one, goal)]
    fallback = deployment.fallback
    kept = [] if fallback is None else _restored(plan, world, deployment, fallback, goal, current, old, now)
    if any(isinstance(event, e.Planned) for event in plan.events):
        return False
    superseded = [one for one in old if one.state is _S.STARTING and one not in kept]
    _retire(plan, superseded, "superseded")
    old = [one for one in old if one.is_listed or one in kept]
    surplus = len(current) - goal.num_replicas
    if surplus > 0:
        _retire(plan, _least_needed(current)[:surplus])
        return False
    _replace(plan, world, deployment, goal, instances, current, old, now)
    _reconfigure(plan, goal, current)
    return (
        surplus == 0
        and not old
        and all(one.state is _S.RUNNING and one.row.config == goal.config for one in current)
    )


def _restored(
    plan: Plan,
    world: World,
    deployment: Deployment,
    fallback: Target,
    goal: Target,
    current: list[Instance],
    old: list[Instance],
    now: float,
) -> list[Instance]:
    """Keeps up the strength of the last good version, whatever took it, until that of the new one is there.

    Gives the replicas that start for it. They take no room that the new version needs.
    """
    short = min(fallback.num_replicas, goal.num_replicas)
    short -= sum(one.is_listed for one in current) + sum(one.is_listed for one in old)
    alike = [one for one in old if one.row.version == fallback.version]
    starting = [one for one in alike if one.state is _S.STARTING]
    if short > len(starting):
        _start(plan, world, deployment, fallback, short - len(starting), alike, [], now, beside=[goal])
    return starting[: max(short, 0)]


def _is_fit(instance: Instance, goal: Target) -> bool:
    """Whether it need not be replaced on the way to `goal`."""
    return instance.row.version == goal.version and not instance.row.expired


def _replace(
    plan: Plan,
    world: World,
    deployment: Deployment,
    goal: Target,
    instances: list[Instance],
    current: list[Instance],
    old: list[Instance],
    now: float,
    beside: Sequence[Target] = (),
) -> None:
    """Starts what `current` lacks, as far as there is room beside `old`, of which goes what is not needed any more."""
    missing = min(goal.num_replicas - len(current), _room(goal, instances, current, old))
    if missing > 0:
        _start(plan, world, deployment, goal, missing, current, old, now, beside)
    spare = len(old) + sum(one.is_listed for one in current) - goal.num_replicas
    if spare > 0:
        going = _least_needed(old)[:spare]
        for one in going:
            _retire(plan, [one], one.row.expired or "superseded")


def _room(goal: Target, instances: list[Instance], current: list[Instance], old: list[Instance]) -> int:
    """How many may start now: what is missing at all, and of successors one batch, within the surge."""
    above = len(current) + len(old) - goal.num_replicas
    in_transition = sum(one.state is _S.STARTING for one in current) + sum(
        one.state in GOING and not _is_fit(one, goal) for one in instances
    )
    successors = min(goal.batch - in_transition, goal.surge - max(above, 0))
    return max(-above, 0) + max(successors, 0)


def _hold(
    plan: Plan,
    world: World,
    deployment: Deployment,
    instances: list[Instance],
    now: float,
    beside: Sequence[Target] = (),
) -> None:
    """The update was given up: its version is not started again, and the last good target keeps the strength."""
    stable, target = deployment.row.stable, deployment.target
    kept = [one for one in instances if one.state in COUNTED]
    if stable is None or target is None or stable.version != target.version:
        failing = [one for one in kept if target is not None and one.row.version == target.version]
        _retire(plan, [one for one in failing if one.state is _S.STARTING], "the update was given up")
        kept = [one for one in kept if one.is_listed or one not in failing]
    if stable is not None:
        fit = [one for one in kept if not one.row.expired]
        surplus = len(fit) - stable.num_replicas
        if target is not None and stable.rules is not None and surplus > 0:
            # Load may ask for less; the version that was given up goes first.
            fit.sort(key=lambda one: (one.is_listed, one.row.version == stable.version, -one.row.rank))
            _retire(plan, fit[:surplus])
            return
        worn = [one for one in kept if one.row.expired and one.is_listed]
        _replace(plan, world, deployment, stable, instances, fit, worn, now, beside)


def _start(
    plan: Plan,
    world: World,
    deployment: Deployment,
    target: Target,
    missing: int,
    current: list[Instance],
    old: list[Instance],
    now: float,
    beside: Sequence[Target] = (),
) -> None:
    """Plans replicas as far as there is room for them, and beside what they take for one of each of `beside`."""
    at = retry_at(deployment, target)
    if now < at:
        plan.wake(at)
        return
    held = world.allocations()
    taken = {one.row.rank for one in current}
    ranks = (number for number in range(target.num_replicas) if number not in taken)
    for offset in range(missing):
        found = place(world.supply, held, target.demand)
        if isinstance(found, Shortage):
            _make_room(plan, world, target, old)
            return
        held.append(found)
        if not found.is_empty and any(
            isinstance(place(world.supply, held, one.demand), Shortage) for one in beside
        ):
            return
        plan.events.append(e.Planned(_new_row(world, target, found, next(ranks), offset)))


def _new_row(world: World, target: Target, allocation: Allocation, rank: int, offset: int) -> InstanceRow:
    unique_id = world.next_id(offset)
    return InstanceRow(
        ref=f"{target.kind}-{unique_id}",
        owner=target.key,
        unique_id=unique_id,
        version=target.version,
        kind=target.kind,
        config=target.config,
        allocation=allocation,
        rank=rank,
        children=target.children,
        graceful_shutdown_timeout_s=target.graceful_shutdown_timeout_s,
    )


def _make_room(plan: Plan, world: World, target: Target, old: list[Instance]) -> None:
    """Lets as many old replicas go as one new one needs, unless what goes already is enough or all would not be."""
    leaving = [ref for ref, one in world.owned.get(target.key, {}).items() if one.state not in COUNTED]
    if not isinstance(place(world.supply, world.allocations(leaving), target.demand), Shortage):
        return
    victims: list[Instance] = []
    for one in _least_needed(old):
        victims.append(one)
        gone = [*leaving, *(victim.row.ref for victim in victims)]
        if not isinstance(place(world.supply, world.allocations(gone), target.demand), Shortage):
            _retire(plan, victims, "its resources are needed by its successor")
            old[:] = [other for other in old if other not in victims]
            return


def _reconfigure(plan: Plan, target: Target, current: list[Instance]) -> None:
    """Tells replicas the new configuration, a batch at a time, because each is busy while it takes it in."""
    room = target.batch - sum(one.state is _S.UPDATING for one in current)
    stale = [one for one in current if one.state is _S.RUNNING and one.row.config != target.config]
    for one in stale[: max(room, 0)]:
        plan.events.append(e.ReconfigureDecided(one.row.ref, target.config))
        plan.commands.append(c.ReconfigureInstance(one.row.ref, one.row.config, target.config))


def _least_needed(instances: list[Instance]) -> list[Instance]:
    """Those that are not up first, then from the highest rank down, so that ranks stay dense."""
    return sorted(instances, key=lambda one: (one.is_listed, -one.row.rank))


def shortage_of(world: World, deployment: Deployment) -> str:
    """What a replica that should be there lacks, or nothing."""
    target = deployment.target
    if target is None or not _is_short(world, deployment):
        return ""
    found = place(world.supply, world.allocations(), target.demand)
    return found.text if isinstance(found, Shortage) else ""


def _is_short(world: World, deployment: Deployment) -> bool:
    """Whether replicas of its target are still to be started."""
    target = deployment.target
    if target is None or deployment.row.rollout.halted:
        return False
    owned = world.instances_of(target.key)
    return (
        sum(one.state in COUNTED and one.row.version == target.version for one in owned) < target.num_replicas
    )
