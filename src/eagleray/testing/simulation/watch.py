"""A world that is looked at after every event: what must always hold is checked here, and nowhere else.

The checks use only what users and operators can see (who is listed, what is held, how long a state lasts), never how
the decider came to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from eagleray.reconcile import events as e
from eagleray.reconcile.deployment import DRAIN_GRACE_S, STOP_GRACE_S
from eagleray.reconcile.instance import (
    GOING,
    IllegalTransitionError,
    Instance,
    InstanceState,
    Trigger,
)
from eagleray.reconcile.placement import UNIT
from eagleray.reconcile.scaling import ScalingRules
from eagleray.reconcile.target import Target
from eagleray.reconcile.world import World

if TYPE_CHECKING:
    from eagleray.testing.simulation.machine import Machine

_SLACK_S = 1.0
"""For links and disk."""
_UNLIST_S = 5.0 + 1.0
"""Acknowledgements are waited for that long, after a restart also for subscribers to come back."""

_LOSSES = frozenset((Trigger.LOST, Trigger.EXITED, Trigger.FAILED))
_QUIET = (e.CheckBegun, e.HealthChecked, e.Proven)
"""Events of a world in which nothing happens; that an update has lasted long enough changes nothing in it."""


class Floors:
    """How many listed instances each deployment must have now; kept over restarts of the controller.

    It rises to the target when that is reached, and falls with every loss that no decision made and with every target
    that wants fewer.
    """

    def __init__(self) -> None:
        self.by_key: dict[str, int] = {}

    def follow(self, world: World, event: e.Event) -> None:
        """After `event` was applied."""
        if isinstance(event, e.Reached):
            deployment = world.deployments[event.key]
            if deployment.target is not None:
                self.by_key[event.key] = deployment.target.num_replicas
        for key in list(self.by_key):
            deployment_or_none = world.deployments.get(key)
            target = deployment_or_none.target if deployment_or_none is not None else None
            serving = deployment_or_none.serving if deployment_or_none is not None else None
            if target is None or serving is None:
                del self.by_key[key]
            else:  # an update that is taken back after it was reached may go back to fewer
                self.by_key[key] = min(self.by_key[key], target.num_replicas, serving.num_replicas)

    def cap(self, key: str, count: int) -> None:
        self.by_key[key] = min(self.by_key[key], count)

    def lose(self, key: str) -> None:
        if key in self.by_key:
            self.by_key[key] = max(0, self.by_key[key] - 1)


class WatchedWorld(World):
    """The controller's world, in a simulation."""

    def __init__(self, machine: Machine, floors: Floors, seed: str, life: str) -> None:
        super().__init__(seed, life)
        self._machine = machine
        self._floors = floors
        self._since: dict[str, tuple[InstanceState, float]] = {}
        self.loud_events = 0
        machine.world = self

    def apply(self, event: e.Event, now: float) -> set[str]:
        listed = {ref: one for ref, one in self.instances.items() if one.is_listed}
        is_quiet = self._is_quiet(event)
        try:
            dirty = super().apply(event, now)
        except IllegalTransitionError as error:
            self._machine.violated(f"an event that cannot be: {error}")
            raise
        if not is_quiet:
            self.loud_events += 1
            self._machine.trace(_line(event))
        if isinstance(event, e.Reached):
            if self.deployments[event.key].row.stable is not None:  # else it may turn out not to start
                self._machine.ledger.reached(event.key)
        elif isinstance(event, e.DeploymentGone):
            self._machine.ledger.gone(event.key)
        self._machine.were_listed |= {ref for ref, one in self.instances.items() if one.is_listed}
        for one in listed.values():
            if one.state is InstanceState.LEAVING:
                self._machine.on_leaving(one.row.owner)
            if not one.is_listed and _is_loss(event):
                self._floors.lose(one.row.owner)
        self._floors.follow(self, event)
        if not is_quiet:
            self.check(now)
        return dirty

    def _is_quiet(self, event: e.Event) -> bool:
        """Whether it happens also where nothing happens; a replica that has expired says so at each health check."""
        if isinstance(event, e.Expired):
            one = self.instances.get(event.ref)
            return one is None or bool(one.row.expired)
        return isinstance(event, _QUIET)

    def check(self, now: float) -> None:
        """All that must hold now."""
        violated = self._machine.violated
        for key, floor in self._floors.by_key.items():
            listed = sum(one.is_listed for one in self.instances_of(key))
            if listed < floor and self._is_short(key):
                self._floors.cap(key, listed)
            elif listed < floor:
                violated(f"{key} has {listed} replicas listed, {floor} were up and nothing was lost")
        held: dict[str, int] = {}
        for one in self.instances.values():
            for gpu, parts in one.row.allocation.gpus.items():
                held[gpu] = held.get(gpu, 0) + parts
        if any(parts > UNIT for parts in held.values()):
            violated(f"a GPU is given out twice: {held}")
        if len({one.row.unique_id for one in self.instances.values()}) != len(self.instances):
            violated("two instances have the same id")
        for key, deployment in self.deployments.items():
            for target in (deployment.target, deployment.serving):
                if target is not None and target.rules is not None and not _is_within(target.rules, target):
                    violated(f"{key} is to have {target.num_replicas} replicas, of {target.rules.bounds}")
        if not self._machine.disk_was_full:
            self._check_ends(now)

    def _is_short(self, key: str) -> bool:
        """A deployment that needs what is scarce may let an old replica go before the new one comes."""
        deployment = self.deployments[key]
        return any(one is not None and one.demand.gpus for one in (deployment.target, deployment.row.stable))

    def _check_ends(self, now: float) -> None:
        """What goes is gone by its deadline."""
        for ref, one in self.instances.items():
            if one.state not in GOING:
                continue
            state, since = self._since.get(ref, (None, now))
            if state is not one.state:
                self._since[ref] = (one.state, now)
            elif now - since > _allowed_s(one):
                self._machine.violated(f"{ref} is {one.state} for {now - since:.1f} s")

    def load(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        super().load(rows)
        for key in self._floors.by_key:
            # What came up last may not have been durable; it is greeted before it is listed again.
            self._floors.cap(key, sum(one.is_listed for one in self.instances_of(key)))
        for name, generation in self._machine.acknowledged.items():
            row = self.applications.get(name)
            if row is None or row.generation < generation:
                self._machine.violated(f"the deploy {generation} of '{name}' was acknowledged and is lost")


def _is_within(rules: ScalingRules, target: Target) -> bool:
    low, high = rules.bounds
    return low <= target.num_replicas <= high


def _is_loss(event: e.Event) -> bool:
    """Whether it takes an instance away that nobody decided to let go: a failed health check or a stop does, too."""
    if isinstance(event, e.Happened):
        return event.trigger in _LOSSES
    return isinstance(event, e.HealthChecked | e.Adopted | e.Suspended)


def _allowed_s(one: Instance) -> float:
    match one.state:
        case InstanceState.LEAVING:
            return _UNLIST_S + _SLACK_S
        case InstanceState.DRAINING:
            return max(one.row.graceful_shutdown_timeout_s, 20.0) + DRAIN_GRACE_S + _SLACK_S
        case InstanceState.STOPPING:
            return STOP_GRACE_S + _SLACK_S
        case _:
            return 6.0 + _SLACK_S


def _line(event: e.Event) -> str:
    match event:
        case e.Deployed(name):
            return f"Deployed {name}"
        case e.Planned(row):
            return f"Planned {row.ref} of {row.owner} version {row.version}"
        case e.Happened(ref, trigger, reason):
            return f"{ref} {trigger} {reason.splitlines()[-1] if reason else ''}"
        case e.Adopted(alive):
            return f"Adopted {sorted(alive)}"
        case _:
            return f"{type(event).__name__} {getattr(event, 'key', getattr(event, 'ref', getattr(event, 'name', '')))}"


def rows_of(world: World) -> dict[str, object]:
    """What a world must be equal in after it was stored and loaded again."""
    return {
        "applications": dict(world.applications),
        "deployments": {
            key: (one.row, one.target) for key, one in world.deployments.items() if not key.startswith("#")
        },
        "instances": {ref: msgspec.structs.asdict(one.row) for ref, one in world.instances.items()},
    }
