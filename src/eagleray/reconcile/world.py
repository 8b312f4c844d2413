"""All that the controller knows: applications, deployments, instances, and what the machine has.

`apply` takes an event and returns the keys that must be reconciled. A key is an application's name, a deployment's key
(`app#name`), one of `PROXY_KEYS` or `SYSTEM_KEY`. Durable parts are rows; `take_changes` says which of them to store.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from eagleray.reconcile import applications, leaving, lifecycle, reaching, recount
from eagleray.reconcile import events as e
from eagleray.reconcile.applications import (
    APPLICATIONS,
    DECLARED_ROW,
    META,
    ApplicationRow,
    blobs_of,
    current_targets,
)
from eagleray.reconcile.instance import GOING, Instance, InstanceRow, InstanceState
from eagleray.reconcile.placement import Allocation, Supply
from eagleray.reconcile.reaching import drop
from eagleray.reconcile.rollout import Rollout, begin
from eagleray.reconcile.scaling import Scaling, counted
from eagleray.reconcile.target import Target

SYSTEM_KEY = "#"
"""The instance as a whole: its end."""

DEPLOYMENTS, INSTANCES = "deployments", "instances"
"""Names of the other tables of rows."""

RECENTLY_DEAD = 10
"""Instances of a deployment that are remembered after their end, as in Ray Serve."""

_CLOSING_ROW = "closing"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class DeploymentRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """`stable` is the last target that was reached; it may be needed again when an update is given up.

    `generation` of the application that `rollout` belongs to: an application's row becomes durable before those of its
    deployments. `former` is the version before `stable`, kept until `proven_at` (monotonic seconds of this boot) where
    an update whose replicas do not last is to be taken back.
    """

    key: str
    generation: int = 0
    rollout: Rollout = Rollout()
    stable: Target | None = None
    scaling: Scaling | None = None
    former: Target | None = None
    proven_at: float = 0.0


class Deployment:
    """A row, the target that follows from its application's spec (None: it goes), and the crash count of this life.

    `deaths` has, by version, how many starts failed and replicas died quickly in a row, and when the last one did.
    """

    __slots__ = ("deaths", "row", "target")

    def __init__(self, row: DeploymentRow, target: Target | None) -> None:
        self.row = row
        self.target = target
        self.deaths: dict[str, tuple[int, float]] = {}

    @property
    def goal(self) -> Target | None:
        """What its replicas are brought to: the target, or after an update that is taken back the last good one."""
        target = self.target
        return self.serving if target is not None and target.auto_rollback else target

    @property
    def serving(self) -> Target | None:
        """Whose count and rules are in force: the target, or after an update that was given up the last good one."""
        target, stable = self.target, self.row.stable
        return stable if target is not None and stable is not None and self.row.rollout.halted else target

    @property
    def fallback(self) -> Target | None:
        """The last good version while an update to another one is under way: what it lacks is started too."""
        target, stable, rollout = self.target, self.row.stable, self.row.rollout
        if target is None or stable is None or stable.version == target.version or target.endless:
            return None
        # Where none was wanted at first, the version before has gone when the first replica of this one starts.
        return None if rollout.halted or rollout.reached or not rollout.is_rolling else stable

    @property
    def kept(self) -> Target | None:
        """The target; of one that an update has dropped, what serves those who still call it."""
        return self.row.stable if self.target is None else self.target

    def target_of(self, version: str) -> Target | None:
        """The target that replicas of `version` are made by; None for a version that nobody wants any more."""
        for target in (self.target, self.row.stable):
            if target is not None and target.version == version:
                return target
        return None


class World:
    """Belongs to one controller. `seed` keeps the ids of its instances apart from those of former controllers.

    `life` names the life of the whole instance: a shutdown that was begun is finished after a restart of the
    controller, and forgotten when the instance is started anew.
    """

    def __init__(self, seed: str, life: str = "") -> None:
        self.applications: dict[str, ApplicationRow] = {}
        self.deployments: dict[str, Deployment] = {}
        self.instances: dict[str, Instance] = {}
        self.owned: dict[str, dict[str, Instance]] = {}
        """Deployment key -> its instances by ref."""
        self.dead: dict[str, deque[Instance]] = {}
        """Deployment key -> the instances that have gone last, for people; forgotten with the controller."""
        self.supply = Supply()
        self.is_closing = False
        self.has_ended = False
        self.is_leaving = False
        self.is_draining = False
        self.is_shut = False
        """Node has been told to close the HTTP listeners."""
        self.populated = False
        self.declared: dict[str, Any] = {}
        """What the last config file says of the instance as a whole, such as `target_capacity`."""
        self.building: dict[str, int] = {}
        """Application name -> generation whose builder runs now."""
        self.preparing: dict[str, str] = {}
        """Environment recipe -> what there is to tell of it while it is made; kept by who makes them."""
        self._seed = seed
        self._life = life
        self._serial = 0
        self._changed: dict[tuple[str, str], bytes | None] = {}

    # ---- reading ----------------------------------------------------------------------------------------------

    def instances_of(self, key: str) -> list[Instance]:
        return list(self.owned.get(key, {}).values())

    def allocations(self, leaving_out: Iterable[str] = ()) -> list[Allocation]:
        """What all instances hold, but those whose refs are given."""
        out = set(leaving_out)
        return [one.row.allocation for ref, one in self.instances.items() if ref not in out]

    def next_id(self, offset: int = 0) -> str:
        """The unique id of the instance that is planned next (`offset`: after so many others)."""
        digest = hashlib.sha256(f"{self._seed}/{self._serial + offset}".encode()).digest()
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:8])

    def blobs_in_use(self) -> set[str]:
        """Digests that some replica may yet be started from."""
        used: set[str] = set()
        for deployment in self.deployments.values():
            for target in (deployment.target, deployment.row.stable, deployment.row.former):
                if target is not None:
                    used |= target.blobs
        for row in self.applications.values():
            if row.code_spec and not row.deleting:  # another config may be laid over it
                used |= blobs_of(row.code_spec)
        return used

    def deployments_of(self, app: str) -> list[str]:
        return [key for key in self.deployments if key.startswith(f"{app}#")] if app else []

    # ---- rows -------------------------------------------------------------------------------------------------

    def load(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        """Fills an empty world from stored rows: (table, key, value)."""
        stored: dict[str, DeploymentRow] = {}
        for table, key, value in rows:
            if table == APPLICATIONS:
                self.applications[key] = msgspec.json.decode(value, type=ApplicationRow)
            elif table == DEPLOYMENTS:
                stored[key] = msgspec.json.decode(value, type=DeploymentRow)
            elif table == INSTANCES:
                self._add(Instance(msgspec.json.decode(value, type=InstanceRow)))
            elif (table, key) == (META, _CLOSING_ROW):
                self.is_closing = self.is_leaving = msgspec.json.decode(value) == self._life
            elif (table, key) == (META, DECLARED_ROW):
                self.declared = msgspec.json.decode(msgspec.json.decode(value, type=str))
        targets: dict[str, Target] = {}
        for app in self.applications.values():
            if app.spec and not app.deleting:
                targets |= current_targets(self, app)
        for key in [*targets, *(key for key in stored if key not in targets)]:
            row, target = stored.get(key, DeploymentRow(key)), targets.get(key)
            if target is not None:
                target, scaling = counted(target, row.stable, row.scaling)
                if not row.rollout.halted or row.stable is None:  # else it is the last good version's
                    row = msgspec.structs.replace(row, scaling=scaling)
            self.deployments[key] = Deployment(row, target)
            self._catch_up(key)
        self.populated = any(target.config.route_prefix is not None for target in targets.values())

    def _catch_up(self, key: str) -> None:
        """Begins the rollout of an application that was accepted, but not yet begun, when the controller died."""
        deployment = self.deployments[key]
        app = self.applications.get(key.partition("#")[0])
        row, target = deployment.row, deployment.target
        if target is not None and app is not None and row.generation != app.spec_generation:
            rollout = begin(row.rollout, row.stable, target, stable=row.stable)
            former = row.former if row.stable is not None and row.stable.version == target.version else None
            _, scaling = counted(target, row.stable, row.scaling)
            generation = app.spec_generation
            self.put_deployment(
                msgspec.structs.replace(
                    row, rollout=rollout, generation=generation, scaling=scaling, former=former
                )
            )

    def take_changes(self) -> dict[tuple[str, str], bytes | None]:
        """(table, key) -> new value (None: deleted) since the last call."""
        changed, self._changed = self._changed, {}
        return changed

    def put_application(self, row: ApplicationRow) -> None:
        self.applications[row.name] = row
        self._note(APPLICATIONS, row.name, row)

    def drop_application(self, name: str) -> None:
        del self.applications[name]
        self._note(APPLICATIONS, name, None)

    def declare(self, text: str) -> None:
        """Notes what a config file says of the whole instance (JSON)."""
        self.declared = msgspec.json.decode(text)
        self._note(META, DECLARED_ROW, text)

    def put_deployment(self, row: DeploymentRow) -> None:
        self.deployments[row.key].row = row
        self._note(DEPLOYMENTS, row.key, row)

    def put_instance(self, instance: Instance) -> None:
        """Notes the instance's row; a STOPPED one is forgotten."""
        row = instance.row
        if row.state is InstanceState.STOPPED:
            self.instances.pop(row.ref, None)
            self.owned.get(row.owner, {}).pop(row.ref, None)
            self._note(INSTANCES, row.ref, None)
            self.dead.setdefault(row.owner, deque(maxlen=RECENTLY_DEAD)).append(instance)
        else:
            self._note(INSTANCES, row.ref, row)

    def _add(self, instance: Instance) -> None:
        self.instances[instance.row.ref] = instance
        self.owned.setdefault(instance.row.owner, {})[instance.row.ref] = instance

    def _note(self, table: str, key: str, row: Any) -> None:
        self._changed[table, key] = None if row is None else msgspec.json.encode(row)

    # ---- events -----------------------------------------------------------------------------------------------

    def apply(self, event: e.Event, now: float) -> set[str]:
        """Raises IllegalTransitionError for what cannot be. Reports on instances that are gone change nothing."""
        handler: Callable[[World, Any, float], set[str]] = _HANDLERS[type(event)]
        return handler(self, event, now)

    def set_targets(self, app: str, generation: int, targets: dict[str, Target]) -> set[str]:
        """Makes `targets` those of the application `app`; deployments that are missing in it go."""
        keys = {*self.deployments_of(app), *targets}
        for key in targets:
            if key not in self.deployments:
                self.deployments[key] = Deployment(DeploymentRow(key), None)
        for key in keys:
            deployment, new = self.deployments[key], targets.get(key)
            row, old = deployment.row, deployment.target
            is_same = old is not None and new is not None and old.version == new.version
            row = row if is_same else msgspec.structs.replace(row, former=None)
            if new is None:
                drop(self, deployment, row)
            else:
                new, scaling = counted(new, deployment.serving or row.stable, row.scaling)
                rollout = begin(row.rollout, deployment.target, new, stable=row.stable)
                if rollout is not row.rollout:
                    deployment.deaths.clear()
                self.put_deployment(
                    msgspec.structs.replace(row, rollout=rollout, generation=generation, scaling=scaling)
                )
            deployment.target = new
            self.populated |= new is not None and new.config.route_prefix is not None
        return keys | {app}

    def _on_planned(self, event: e.Planned, now: float) -> set[str]:
        self._serial += 1
        instance = Instance(event.row)
        self._add(instance)
        self.put_instance(instance)
        return {event.row.owner}

    def _on_deployment_gone(self, event: e.DeploymentGone, now: float) -> set[str]:
        del self.deployments[event.key]
        self.dead.pop(event.key, None)
        self._note(DEPLOYMENTS, event.key, None)
        app = event.key.partition("#")[0]
        return {app or SYSTEM_KEY, *self.deployments_of(app)}

    def _on_shutdown(self, event: e.ShutdownRequested, now: float) -> set[str]:
        self.is_closing = self.is_leaving = True
        self._note(META, _CLOSING_ROW, self._life)
        return applications.delete(self, e.DeleteRequested(tuple(self.applications)), now) | {SYSTEM_KEY}

    def _on_proxy_wanted(self, event: e.ProxyWanted, now: float) -> set[str]:
        if event.key not in self.deployments:
            if event.target is None:
                return set()
            self.deployments[event.key] = Deployment(DeploymentRow(event.key), None)
        deployment = self.deployments[event.key]
        if event.target is not None:
            rollout = begin(
                deployment.row.rollout, deployment.target, event.target, stable=deployment.row.stable
            )
            self.put_deployment(msgspec.structs.replace(deployment.row, rollout=rollout))
        deployment.target = event.target
        return {event.key}

    def _on_supply(self, event: e.SupplyKnown, now: float) -> set[str]:
        self.supply = event.supply
        return set(self.deployments)

    def _on_ended(self, event: e.Ended, now: float) -> set[str]:
        self.has_ended = True
        self._note(META, _CLOSING_ROW, None)
        return set()

    def going(self) -> list[str]:
        """Refs of instances that leave."""
        return [ref for ref, instance in self.instances.items() if instance.state in GOING]


_HANDLERS: dict[type[e.Event], Callable[[World, Any, float], set[str]]] = {
    **applications.HANDLERS,
    e.Autoscaled: recount.autoscaled,
    e.ShutdownRequested: World._on_shutdown,
    e.LeavingBegun: leaving.begun,
    e.DrainBegun: leaving.drain_begun,
    e.ListenersClosing: leaving.listeners_closing,
    e.ProxyWanted: World._on_proxy_wanted,
    e.SupplyKnown: World._on_supply,
    e.Planned: World._on_planned,
    e.Reached: reaching.reached,
    e.Proven: reaching.proven,
    e.DeploymentGone: World._on_deployment_gone,
    e.Ended: World._on_ended,
    e.Happened: lifecycle.happened,
    e.Born: lifecycle.born,
    e.Suspended: lifecycle.suspended,
    e.HealthChecked: lifecycle.health_checked,
    e.CheckBegun: lifecycle.check_begun,
    e.ReconfigureDecided: lifecycle.reconfigure_decided,
    e.Ordered: lifecycle.ordered,
    e.Adopted: lifecycle.adopted,
    e.Expired: lifecycle.expired,
}
