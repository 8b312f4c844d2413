"""A world under the pure decider, with a make-believe machine round it: no clock, no processes, no I/O.

Commands wait in `pending` until they are performed, so that tests choose when and with what outcome. After every event
the invariants of the decider are checked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from eagleray.controller.listing import routing_table
from eagleray.controller.workqueue import WorkQueue
from eagleray.reconcile import commands as c
from eagleray.reconcile import events as e
from eagleray.reconcile.application import reconcile
from eagleray.reconcile.instance import LISTED, InstanceRow, InstanceState, Trigger
from eagleray.reconcile.placement import UNIT, Supply
from eagleray.reconcile.status import application_overview
from eagleray.reconcile.target import PROXY_KEY, proxy_target
from eagleray.reconcile.world import World
from eagleray.spec.application import ApplicationSpec
from eagleray.spec.status import ApplicationStatusOverview, DeploymentStatusOverview

TRACEBACK = "Traceback (most recent call last):\nValueError: no weights"

UP, RAISES, DIES, REJECTED = "up", "raises", "dies", "rejected"
"""Outcomes of a start."""


def application(
    name: str = "default", route_prefix: str | None = "/", version: str = "v1", **deployments: Any
) -> str:
    """ApplicationSpec as JSON; each deployment is a dict of options, `children` and `version` beside them. The first is
    the ingress."""
    bound = []
    for deployment, given in (deployments or {"model": {}}).items():
        options = dict(given)
        children = options.pop("children", [])
        own_version = options.pop("version", version)
        bound.append(
            {
                "spec": {"name": deployment, **options},
                "code": {"target": f"app:{deployment}"},
                "version": own_version,
                "children": children,
                "ingress": not bound,
            }
        )
    spec = {"name": name, "route_prefix": route_prefix, "deployments": bound}
    return ApplicationSpec.from_json(json.dumps(spec).encode()).to_json().decode()


class Decided:
    """Holds the world; `outcome(row)` says how a start ends, `health` and `reconfigure` what instances answer."""

    def __init__(self, supply: Supply | None = None) -> None:
        self.lives = 0
        self.world = World("seed")
        self.now = 1000.0
        self.queue = WorkQueue()
        self.pending: list[c.Command] = []
        self.started: list[InstanceRow] = []
        self.builds: list[c.BuildApplication] = []
        self.alive: set[str] = set()
        self.has_ended = False
        self.listeners_closed = False
        self.outcome: Callable[[InstanceRow], str] = lambda row: UP
        self.health: Callable[[str], str] = lambda ref: ""
        self.reconfigure: Callable[[str], str] = lambda ref: ""
        self.holds_leaving = False
        self.stored: dict[tuple[str, str], bytes] = {}
        self.supply = supply or Supply(num_cpus=2, memory=1 << 30)
        self.apply(e.SupplyKnown(self.supply))

    # ---- the machine --------------------------------------------------------------------------------------------

    def apply(self, event: e.Event) -> None:
        """An event, and all decisions that follow from it; commands are left pending."""
        self._apply(event)
        self.reconcile_all()

    def _apply(self, event: e.Event) -> None:
        self.queue.mark(sorted(self.world.apply(event, self.now)))
        self.check()

    def reconcile_all(self) -> None:
        rounds = 0
        while (key := self.queue.take()) is not None:
            plan = reconcile(self.world, key, self.now)
            assert reconcile(self.world, key, self.now) == plan, "reconcile must not change anything"
            self.queue.schedule(key, plan.wake_at)
            for event in plan.events:
                self._apply(event)
            for command in plan.commands:
                ref = getattr(command, "ref", None)
                assert ref is None or ref in self.world.instances, f"{command} for an unknown instance"
                self.pending.append(command)
            rounds += 1
            assert rounds < 5000, f"{key} does not settle: {plan}"

    def settle(self) -> None:
        """Performs everything that is pending, and what follows from it, without time passing."""
        rounds = 0
        while True:
            if self.pending:
                self.perform(self.pending.pop(0))
            elif leaving := self.leaving():
                self.apply(e.Happened(leaving[0], Trigger.UNLISTED))
            else:
                return
            rounds += 1
            assert rounds < 5000, f"does not settle: {self.pending}"

    def leaving(self) -> list[str]:
        if self.holds_leaving:
            return []
        return [ref for ref, one in self.world.instances.items() if one.state is InstanceState.LEAVING]

    def advance(self, seconds: float) -> None:
        """Lets time pass from alarm to alarm, performing what they lead to."""
        until = self.now + seconds
        while (alarm := self.queue.next_at()) is not None and alarm <= until:
            self.wait_for_alarm()
            self.settle()
        self.now = until

    def wait_for_alarm(self) -> None:
        """Lets time pass until something is due; what that leads to is left pending."""
        alarm = self.queue.next_at()
        assert alarm is not None, "it waits for nothing"
        self.now = max(self.now, alarm)
        self.queue.promote(self.now)
        self.reconcile_all()

    def perform(self, command: c.Command) -> None:
        match command:
            case c.StartInstance(ref):
                self._start(ref)
            case c.GreetInstance(ref):
                self.apply(e.Happened(ref, Trigger.READY if ref in self.alive else Trigger.LOST))
            case c.ReconfigureInstance(ref):
                refusal = self.reconfigure(ref)
                trigger = Trigger.REFUSED if refusal else Trigger.RECONFIGURED
                if ref in self.alive:
                    self.apply(e.Happened(ref, trigger, refusal))
            case c.CheckHealth(ref):
                self.apply(e.HealthChecked(ref, self.health(ref)))
            case c.DrainInstance(ref):
                if self.world.is_draining or self.world.is_closing:
                    assert self.listeners_closed, "clients would wait for nobody"
                self.apply(e.Happened(ref, Trigger.DRAINED))
                self.die(ref)
            case c.StopInstance(ref):
                self.die(ref)
            case c.BuildApplication():
                self.builds.append(command)
            case c.StopBuild(name):
                self.builds = [one for one in self.builds if one.name != name]
            case c.CloseListeners():
                assert not self.listeners_closed
                self.listeners_closed = True
            case c.EndInstance():
                assert not self.alive
                self.has_ended = True

    def _start(self, ref: str) -> None:
        instance = self.world.instances.get(ref)
        if instance is None:
            return
        assert ref not in self.alive, "started twice"
        self.started.append(instance.row)
        outcome = self.outcome(instance.row)
        if outcome == REJECTED or instance.state is not InstanceState.STARTING:
            self.apply(e.Happened(ref, Trigger.REJECTED, "port in use"))
            return
        self.alive.add(ref)
        self.apply(e.Born(ref, len(self.started)))
        if outcome == UP:
            self.apply(e.Happened(ref, Trigger.READY))
        elif outcome == RAISES:
            self.apply(e.Happened(ref, Trigger.FAILED, TRACEBACK))
        else:
            self.die(ref)

    def die(self, ref: str) -> None:
        """The process ends, if it lives: first the connection, then the exit is noticed."""
        if ref in self.alive:
            self.alive.discard(ref)
            self.apply(e.Happened(ref, Trigger.LOST, "EOF"))
            self.apply(e.Happened(ref, Trigger.EXITED, "SIGKILL"))

    def restart(self) -> None:
        """The controller dies, after the rows that it had written, and another one takes over."""
        rows = self.rows()
        self.lives += 1
        self.world = World(f"seed {self.lives}")
        self.queue = WorkQueue()
        self.pending = []
        self.listeners_closed = False
        self.world.load(rows)
        self._apply(e.SupplyKnown(self.supply))
        self.apply(e.Adopted(dict.fromkeys(self.alive, 1)))

    def rows(self) -> list[tuple[str, str, bytes]]:
        for (table, key), value in self.world.take_changes().items():
            if value is None:
                self.stored.pop((table, key), None)
            else:
                self.stored[table, key] = value
        return [(table, key, value) for (table, key), value in self.stored.items()]

    # ---- users --------------------------------------------------------------------------------------------------

    def deploy(self, name: str = "default", **arguments: Any) -> None:
        self.apply(e.Deployed(name, application(name, **arguments), 0.0))

    def want_proxy(self, key: str = PROXY_KEY) -> None:
        self.apply(e.ProxyWanted(proxy_target({"port": 8000}, key), key))

    # ---- what can be seen ---------------------------------------------------------------------------------------

    def states(self, key: str = "default#model") -> Counter[str]:
        return Counter(str(one.state) for one in self.world.instances_of(key))

    def listed(self, key: str = "default#model") -> list[str]:
        return [one.row.ref for one in self.world.instances_of(key) if one.state in LISTED]

    def app(self, name: str = "default") -> ApplicationStatusOverview:
        return application_overview(self.world, name)

    def status(self, name: str = "default", deployment: str = "model") -> DeploymentStatusOverview:
        return self.app(name).deployments[deployment]

    # ---- invariants ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        world = self.world
        table = routing_table(world, 1, "/run")
        for key, entry in table.deployments.items():
            listed = {one.row.unique_id for one in world.instances_of(key) if one.is_routed}
            assert {replica.replica_id for replica in entry.replicas} == listed
        used: Counter[str] = Counter()
        for ref, instance in world.instances.items():
            assert instance.row.ref == ref
            assert instance.state is not InstanceState.STOPPED
            assert world.owned[instance.row.owner][ref] is instance
            used.update(instance.row.allocation.gpus)
        assert all(amount <= UNIT for amount in used.values()), f"GPUs are given out twice: {used}"
        for refs in world.owned.values():
            assert set(refs) <= set(world.instances)
