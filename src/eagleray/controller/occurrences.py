"""Turns the controller's events into those that people want to read afterwards, each with its cause.

What happens to a process is told as it happens. Statuses and rollouts follow from the world, so they are compared with
what they were when a pass has settled, and only of applications that something has happened to. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eagleray.controller.chronicle import Chronicle, Kind
from eagleray.controller.declared import UNNAMED
from eagleray.reconcile import events as e
from eagleray.reconcile.instance import GOING, LISTED, TABLE, Instance, InstanceState, Trigger
from eagleray.reconcile.lifecycle import HEALTH_MISSES
from eagleray.reconcile.rollout import Goal, failure_message
from eagleray.reconcile.status import application_overview
from eagleray.reconcile.world import Deployment, World
from eagleray.spec.status import DeploymentStatusTrigger

NOT_WANTED = "nobody wants it any more"
"""Why an instance was not started that has been told to go meanwhile."""

_UNSPECIFIED = DeploymentStatusTrigger.UNSPECIFIED
_CRASHES = (Trigger.FAILED, Trigger.REJECTED, Trigger.LOST, Trigger.EXITED)
_RETIRED = (Trigger.RETIRE, Trigger.RETIRE_UNHEARD)

_SAY = {
    Kind.STARTING: "is started",
    Kind.READY: "is ready",
    Kind.START_FAILED: "has failed to start",
    Kind.DIED: "has died",
    Kind.UNHEALTHY: "is unhealthy and will be replaced",
    Kind.REFUSED: "has refused its new configuration",
    Kind.EXPIRED: "is to be replaced by a fresh one",
    Kind.PAUSED: "was stopped by a signal and gets no requests",
    Kind.RESUMED: "goes on",
    Kind.STOPPING: "is told to go",
    Kind.KILLED: "has not ended in time and is killed",
    Kind.ENDED: "has ended",
}


class Occurrences:
    """`on_event` is called before an event takes effect, `settle` when all of a pass have."""

    def __init__(self, chronicle: Chronicle, world: World) -> None:
        self._chronicle = chronicle
        self._world = world
        self._dirty: set[str] = set()
        self._is_first = True
        self._applications: dict[str, str] = {}
        self._deployments: dict[str, str] = {}
        self._rollouts: dict[str, tuple[str, Goal, bool, bool]] = {}
        self._handlers: dict[type[e.Event], Callable[[Any], None]] = {
            e.Deployed: self._deployed,
            e.ImportRequested: self._import_requested,
            e.Declared: self._declared,
            e.ApplicationGone: self._application_gone,
            e.DeploymentGone: self._deployment_gone,
            e.Autoscaled: self._autoscaled,
            e.Scaled: self._scaled,
            e.ShutdownRequested: self._shut_down,
            e.DrainBegun: self._draining,
            e.Adopted: self._adopted,
            e.Planned: self._planned,
            e.Happened: self._happened,
            e.HealthChecked: self._health_checked,
            e.Suspended: self._suspended,
            e.Expired: self._expired,
        }

    def on_event(self, event: e.Event) -> None:
        """Events that say nothing new cost two look-ups."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)
        if not isinstance(event, e.CheckBegun | e.Ordered | e.Born | e.HealthChecked) or (
            isinstance(event, e.HealthChecked) and event.error
        ):
            self._mark(event)

    def _mark(self, event: e.Event) -> None:
        name = getattr(event, "name", None)
        key = getattr(event, "key", None) or getattr(getattr(event, "row", None), "owner", None)
        ref = getattr(event, "ref", None)
        if name is not None:
            self._dirty.add(name)
        elif key is not None:
            self._dirty.add(key.partition("#")[0])
        elif ref is not None:
            instance = self._world.instances.get(ref)
            if instance is not None:
                self._dirty.add(instance.row.owner.partition("#")[0])
        else:
            self._dirty.update(self._world.applications)

    def config_applied(self, names: Iterable[str], source: str) -> None:
        """Somebody's config was accepted, and was not what is wanted anyway."""
        found = ", ".join(names) or "no application"
        by = "by the REST API" if source == UNNAMED else f"from {source}"
        self._chronicle.add(Kind.CONFIG_APPLIED, f"A config of {found} was applied.", by)

    # ---- applications and the instance -------------------------------------------------------------------------

    def _deployed(self, event: e.Deployed) -> None:
        self._chronicle.add(
            Kind.APPLICATION_DEPLOYED, "The application was deployed.", "by a script", key=event.name
        )

    def _import_requested(self, event: e.ImportRequested) -> None:
        path = event.request.import_path
        message = f"The application was deployed; {path} is to be imported."
        by = "by a config" if event.config else "by a command line"
        self._chronicle.add(Kind.APPLICATION_DEPLOYED, message, by, key=event.name)

    def _declared(self, event: e.Declared) -> None:
        message = "The application's configuration has changed, its code has not."
        self._chronicle.add(Kind.APPLICATION_DEPLOYED, message, event.error or "by a config", key=event.name)

    def _application_gone(self, event: e.ApplicationGone) -> None:
        self._chronicle.add(Kind.APPLICATION_DELETED, "The application is gone.", key=event.name)
        self._applications.pop(event.name, None)

    def _deployment_gone(self, event: e.DeploymentGone) -> None:
        self._chronicle.add(Kind.DEPLOYMENT_DELETED, "The deployment is gone.", key=event.key)
        self._deployments.pop(event.key, None)
        self._rollouts.pop(event.key, None)

    def _autoscaled(self, event: e.Autoscaled) -> None:
        deployment = self._world.deployments.get(event.key)
        target = deployment.kept if deployment is not None else None
        if target is not None and target.num_replicas != event.num_replicas:
            message = f"Scales from {target.num_replicas} to {event.num_replicas} replica(s)."
            self._chronicle.add(Kind.SCALED, message, event.reason, key=event.key)

    def _scaled(self, event: e.Scaled) -> None:
        message = f"Scales to {event.num_replicas} replica(s)."
        self._chronicle.add(
            Kind.SCALED, message, "asked for from outside", key=f"{event.name}#{event.deployment}"
        )

    def _shut_down(self, event: e.ShutdownRequested) -> None:
        self._chronicle.add(Kind.INSTANCE_SHUTDOWN, "The instance ends, with all its applications.")

    def _draining(self, event: e.DrainBegun) -> None:
        message = "The instance ends. What was deployed comes back when it is started again."
        self._chronicle.add(Kind.INSTANCE_DRAINING, message)

    def _adopted(self, event: e.Adopted) -> None:
        known = self._world.instances
        if not known:
            self._chronicle.add(Kind.CONTROLLER_STARTED, "The controller has started.")
            return
        living = sum(ref in event.alive for ref in known)
        message = f"A new controller has taken over; {living} of {len(known)} processes live on."
        self._chronicle.add(Kind.CONTROLLER_STARTED, message, "the one before has ended")
        for ref, instance in known.items():
            if ref not in event.alive:
                self._tell(Kind.DIED, instance, "it ended while the controller was down")

    # ---- instances ---------------------------------------------------------------------------------------------

    def _tell(self, kind: Kind, instance: Instance, cause: str = "") -> None:
        row = instance.row
        what = row.kind.capitalize()
        key = row.owner if row.kind == "replica" else ""
        self._chronicle.add(kind, f"{what} {row.unique_id} {_SAY[kind]}.", cause, key=key, instance=row.ref)

    def _planned(self, event: e.Planned) -> None:
        row = event.row
        deployment = self._world.deployments.get(row.owner)
        target = deployment.target_of(row.version) if deployment is not None else None
        version = f"version {target.code_version}" if target is not None and row.kind == "replica" else ""
        self._tell(Kind.STARTING, Instance(row), version)

    def _happened(self, event: e.Happened) -> None:
        instance = self._world.instances.get(event.ref)
        if instance is None:
            return
        before, trigger = instance.state, event.trigger
        after = TABLE.get((before, trigger))
        if after is None or after is before:
            return
        if trigger is Trigger.READY and before is InstanceState.STARTING:
            self._tell(Kind.READY, instance)
        elif trigger is Trigger.REFUSED:
            self._tell(Kind.REFUSED, instance, event.reason)
        elif trigger is Trigger.OVERDUE:
            self._tell(Kind.KILLED, instance)
        elif trigger in _RETIRED:
            self._tell(Kind.STOPPING, instance, event.reason or self._why(instance))
        elif trigger in _CRASHES and before in LISTED:
            self._tell(Kind.DIED, instance, event.reason)
        elif trigger in _CRASHES and before is InstanceState.STARTING and event.reason != NOT_WANTED:
            self._tell(Kind.START_FAILED, instance, event.reason)
        elif trigger is Trigger.LOST and before in GOING:
            self._tell(Kind.DIED, instance, event.reason)
        elif trigger is Trigger.EXITED:
            self._tell(Kind.ENDED, instance, event.reason)

    def _why(self, instance: Instance) -> str:
        deployment = self._world.deployments.get(instance.row.owner)
        if deployment is None or deployment.target is None:
            return "nobody wants its deployment any more"
        return "fewer are wanted"

    def _health_checked(self, event: e.HealthChecked) -> None:
        instance = self._world.instances.get(event.ref)
        if not event.error or instance is None or instance.state not in LISTED:
            return
        if instance.misses + 1 >= HEALTH_MISSES:
            cause = f"{HEALTH_MISSES} health checks in a row have failed: {event.error}"
            self._tell(Kind.UNHEALTHY, instance, cause)

    def _suspended(self, event: e.Suspended) -> None:
        instance = self._world.instances.get(event.ref)
        if instance is not None and event.stopped is (instance.suspended_at is None):
            self._tell(Kind.PAUSED if event.stopped else Kind.RESUMED, instance)

    def _expired(self, event: e.Expired) -> None:
        instance = self._world.instances.get(event.ref)
        if instance is not None and instance.state in LISTED and not instance.row.expired:
            self._tell(Kind.EXPIRED, instance, event.reason)

    # ---- what follows from it ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Tells of statuses and rollouts that are others than before. What a new controller finds is not news."""
        if not self._dirty:
            return
        dirty, self._dirty = sorted(self._dirty), set()
        for name in dirty:
            if name in self._world.applications:
                self._look(name, tell=not self._is_first)
        self._is_first = False

    def _look(self, name: str, *, tell: bool) -> None:
        add = self._chronicle.add if tell else _quiet
        for key in self._world.deployments_of(name):
            self._look_at_rollout(key, self._world.deployments[key], add)
        overview = application_overview(self._world, name)
        for deployment, one in overview.deployments.items():
            key = f"{name}#{deployment}"
            if (former := self._deployments.get(key)) != one.status:
                self._deployments[key] = one.status
                message = f"{former} -> {one.status}" if former else f"{one.status}"
                trigger = "" if one.status_trigger is _UNSPECIFIED else one.status_trigger
                cause = one.message or trigger
                add(Kind.DEPLOYMENT_STATUS, message, cause, key=key)
        if (former := self._applications.get(name)) != overview.status:
            self._applications[name] = overview.status
            message = f"{former} -> {overview.status}" if former else f"{overview.status}"
            add(Kind.APPLICATION_STATUS, message, overview.message, key=name)

    def _look_at_rollout(self, key: str, deployment: Deployment, add: Callable[..., None]) -> None:
        target, rollout = deployment.target, deployment.row.rollout
        if target is None:
            return
        state = target.version, rollout.goal, rollout.reached, rollout.halted
        former = self._rollouts.get(key)
        if state == former:
            return
        self._rollouts[key] = state
        was_reached, was_halted = (False, False) if former is None else former[2:]
        if rollout.halted and not was_halted:
            goal = deployment.goal
            back_to = goal if goal is not target else None
            kind = Kind.ROLLED_BACK if back_to is not None else Kind.ROLLOUT_STOPPED
            what = "is taken back" if back_to is not None else "is given up"
            cause = failure_message(rollout, target, back_to)
            add(kind, f"The update to version {target.code_version} {what}.", cause, key=key)
        elif rollout.reached:
            if not was_reached or (former is not None and former[0] != target.version):
                message = f"{target.num_replicas} replica(s) of version {target.code_version} run."
                add(Kind.ROLLOUT_FINISHED, message, key=key)
        elif not rollout.auto and (former is None or former[:2] != state[:2] or was_reached or was_halted):
            what = rollout.message or f"Update to version {target.code_version}."
            add(Kind.ROLLOUT_BEGUN, what, f"{target.num_replicas} replica(s) are wanted", key=key)


def _quiet(*_: object, **__: object) -> None:
    """It was so before."""
