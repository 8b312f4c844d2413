"""One run from its seed: what users ask for, what goes wrong, the requests meanwhile, and what must be true at the end.

Users and faults act at the same time and know nothing of each other. Afterwards faults stop, and the instance has to
come to rest at what was asked for last; then it is shut down and must leave nothing behind.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eagleray.base.errors import EaglerayError
from eagleray.reconcile.applications import APPLICATIONS
from eagleray.reconcile.deployment import shortage_of
from eagleray.reconcile.instance import InstanceState
from eagleray.reconcile.placement import Shortage, place
from eagleray.reconcile.world import INSTANCES, Deployment, World
from eagleray.rpc.client import Client
from eagleray.testing.simulation.children import SimProxy, SimRouter
from eagleray.testing.simulation.draw import application, brief, config
from eagleray.testing.simulation.faults import Faults
from eagleray.testing.simulation.loop import VirtualLoop
from eagleray.testing.simulation.machine import Machine
from eagleray.testing.simulation.network import Process
from eagleray.testing.simulation.watch import Floors, WatchedWorld, rows_of
from eagleray.wire.changes import ScaleDeployment
from eagleray.wire.control import Accepted, ApplyConfig, DeleteApplications, Deploy, Empty

APPS = ("a", "b")
_ACT_S = 40.0
"""Virtual seconds in which users and faults act."""
_SETTLE_S = 600.0
"""Virtual seconds after which an instance without faults must be at rest."""
_REST_S = 30.0
"""Virtual seconds in which an instance at rest must not decide anything."""

MakeWorld = Callable[[Machine, Floors, str, str], World]


@dataclass
class Outcome:
    """What a run showed. `lines` is its trace."""

    seed: int
    violations: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    requests: int = 0
    failed: int = 0


def simulate(seed: int, make_world: MakeWorld = WatchedWorld) -> Outcome:
    """Runs the scenario of `seed`; never raises for what it finds. Takes over the global `random` while it runs."""
    outcome = Outcome(seed)
    loop = VirtualLoop()
    state = random.getstate()
    random.seed(seed)
    logger = logging.getLogger("eagleray")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        asyncio.set_event_loop(loop)
        run = Run(seed, loop, outcome, make_world)
        loop.run_until_complete(run.play())
    finally:
        logger.level = level
        random.setstate(state)
        asyncio.set_event_loop(None)
        loop.close()
    return outcome


class Run:
    """One seed."""

    def __init__(self, seed: int, loop: VirtualLoop, outcome: Outcome, make_world: MakeWorld) -> None:
        self._rng = random.Random(f"{seed}/users")
        self._load_rng = random.Random(f"{seed}/load")
        self._loop = loop
        self._outcome = outcome
        floors = Floors()
        self.machine = Machine(
            seed,
            loop,
            lambda machine, salt, life: make_world(machine, floors, salt, life),
            outcome.lines.append,
        )
        self._driver = Process(self.machine.network, "driver")
        self._front: SimRouter
        self._expected: dict[str, bool | None] = {}
        """Application -> whether it must be there at the end; None: a delete was given up half-way."""
        self._acting = True

    async def play(self) -> None:
        machine, outcome = self.machine, self._outcome
        machine.boot()
        self._front = SimRouter(machine, self._driver, machine.controller_address)
        await self._front.subscription.start()
        faults = Faults(machine)
        async with asyncio.TaskGroup() as group:
            load = group.create_task(self._load())
            misfortune = group.create_task(faults.happen(_ACT_S))
            await self._use()
            await misfortune
            self._acting = False
            await load
        machine.trace("no more faults")
        await self._settle()
        await self._shut_down()
        await self._front.close()
        await machine.close()
        outcome.violations = machine.violations
        outcome.requests, outcome.failed = machine.ledger.sent, machine.ledger.failed

    # ---- users ---------------------------------------------------------------------------------------------------

    async def _use(self) -> None:
        rng, until = self._rng, self._loop.time() + _ACT_S
        while self._loop.time() < until:
            app, wish = rng.choice(APPS), rng.random()
            if wish < 0.6:
                text = application(app, rng)
                self.machine.trace(f"user deploys {app}: {brief(text)}")
                await self._deploy(app, "deploy", Deploy(specs=[text.encode()]))
            elif wish < 0.75:
                written = config(app, rng)
                self.machine.trace(f"user declares {app}: {brief(written['args']['spec'])}")
                message = ApplyConfig(config=json.dumps(written).encode(), name=app)
                await self._deploy(app, "apply_config", message)
            elif wish < 0.8:
                await self._set_capacity(rng.choice((None, 0, 50, 100)))
            elif wish < 0.85:
                await self._scale(app, rng.choice((0, 1, 3)))
            else:
                await self._delete(app)
            await asyncio.sleep(rng.expovariate(1 / 4.0))

    async def _deploy(self, app: str, method: str, message: Any) -> None:
        machine = self.machine
        reply = await self._ask(method, message, Accepted)
        if reply is None or reply.error:
            machine.trace(f"the deploy of {app} was refused: {reply.error if reply else 'no answer'}")
            return
        self._expected[app] = True
        for _ in range(600):  # a controller that has just come back has not read its rows yet
            assert machine.world is not None
            if (row := machine.world.applications.get(app)) is not None:
                machine.acknowledged[app] = row.generation
                return
            await asyncio.sleep(0.1)
        machine.violated(f"the deploy of {app} was acknowledged and is lost")

    async def _set_capacity(self, percent: float | None) -> None:
        """Of all applications of the config, which stay as they are."""
        self.machine.trace(f"user sets target_capacity to {percent}")
        text = json.dumps({"target_capacity": percent, "applications": []})
        await self._ask("apply_config", ApplyConfig(config=text.encode(), merge=True), Accepted)

    async def _scale(self, app: str, count: int) -> None:
        """From outside, which is refused unless the application's config allows it."""
        self.machine.trace(f"user scales {app} to {count}")
        await self._ask("scale", ScaleDeployment(app, "front", count), Accepted)

    async def _delete(self, app: str) -> None:
        machine = self.machine
        machine.trace(f"user deletes {app}")
        machine.acknowledged.pop(app, None)
        for deployment in ("front", "back"):
            machine.ledger.gone(f"{app}#{deployment}")
        self._expected[app] = None
        patience = self._rng.choice((0.5, 100.0))
        try:
            async with asyncio.timeout(patience):
                if await self._ask("delete", DeleteApplications(names=[app]), Empty) is not None:
                    self._expected[app] = False
        except TimeoutError:
            machine.trace(f"user does not wait for the end of {app}")
            await asyncio.sleep(1.0)  # what was sent has arrived, before anything else is asked for

    async def _ask(self, method: str, message: Any, reply: type[Any], tries: int = 600) -> Any:
        """Asks until there is an answer, also over restarts of the controller."""
        for _ in range(tries):
            try:
                client = await Client.connect(self.machine.controller_address, dial=self._driver.dial)
                try:
                    return await client.request(method, message, reply, timeout_s=None)
                finally:
                    client.close()
            except (OSError, EaglerayError):
                await asyncio.sleep(0.1)
        self.machine.violated(f"the controller does not answer '{method}'")
        return None

    async def _load(self) -> None:
        """Requests from outside, whose arrivals wait for nothing."""
        rng = self._load_rng
        self.machine.on_leaving = self._crowd
        while self._acting:
            await asyncio.sleep(rng.expovariate(2.0))
            key = f"{rng.choice(APPS)}#front"
            for _ in range(12 if rng.random() < 0.02 else 1):
                self._send(key)
        self.machine.on_leaving = lambda key: None

    def _crowd(self, key: str) -> None:
        """Some requests come just when a replica goes, before all know of it."""
        if key.endswith("#front"):
            for _ in range(3):
                self._loop.call_later(0.1 * self._load_rng.random(), self._send, key)

    def _send(self, key: str) -> None:
        """One request through the proxy or the driver."""
        proxies = [
            child
            for child in self.machine.children.values()
            if isinstance(child, SimProxy) and child.is_up and not child.draining and not child.stopped
        ]
        front, origin = self._front, self._driver.name
        if proxies and self._load_rng.random() < 0.5:
            front, origin = proxies[0].front, proxies[0].ref
        front.router.submit(self.machine.ledger.begin(key, origin))

    # ---- the end -------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        machine = self.machine
        until = self._loop.time() + _SETTLE_S
        # It is virtual time, and any event may be the last one.
        while self._unrest() and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(5.0)
        if unrest := self._unrest():
            machine.violated(f"the instance does not come to rest: {unrest}")
            return
        world = machine.world
        assert isinstance(world, WatchedWorld)
        await asyncio.sleep(1.0)  # reports that are still under way
        before = world.loud_events
        await asyncio.sleep(_REST_S)
        if any(map(_ages, world.deployments.values())):
            return
        if world.loud_events != before:
            machine.violated(f"{world.loud_events - before} decisions while nothing happened")
        again = World("again", "/run 0")
        again.load((table, key, value) for (table, key), value in sorted(machine.disk.rows.items()))
        if rows_of(again) != rows_of(world):
            machine.violated(f"the stored world is another one: {rows_of(again)} instead of {rows_of(world)}")

    def _unrest(self) -> str:
        """Why the instance is not at rest where it should be; empty when it is."""
        machine, world = self.machine, self.machine.world
        assert world is not None
        for app, is_there in self._expected.items():
            row = world.applications.get(app)
            if is_there is not None and (row is not None and not row.deleting) is not is_there:
                return f"'{app}' should {'' if is_there else 'not '}be there"
        if set(machine.children) != set(world.instances):
            return f"processes {sorted(machine.children)}, rows {sorted(world.instances)}"
        for key, deployment in world.deployments.items():
            if unrest := self._unrest_of(key, deployment):
                return unrest
        # One that waits for resources may wait for ever.
        waiting = machine.ledger.waiting(
            key for key, one in world.deployments.items() if world.instances_of(key) or _wakes(one)
        )
        return f"requests have no answer: {waiting}" if waiting else ""

    def _is_held_up(self, app: str) -> bool:
        """Whether an update of it was given up or lacks resources."""
        world = self.machine.world
        assert world is not None
        deployments = [world.deployments[key] for key in world.deployments_of(app)]
        return any(one.row.rollout.halted or shortage_of(world, one) for one in deployments)

    def _unrest_of(self, key: str, deployment: Deployment) -> str:
        machine, target = self.machine, deployment.target
        assert machine.world is not None
        instances = machine.world.instances_of(key)
        ages = _ages(deployment)
        for one in instances:
            if one.state is not InstanceState.RUNNING and not ages:
                return f"{one.row.ref} is {one.state}"
        if target is None:
            # Old callers of an update that is held up serve on.
            return "" if self._is_held_up(key.partition("#")[0]) else f"{key} is still there"
        listed = [one for one in instances if one.is_listed]
        serving = deployment.serving or target
        rules, count = serving.rules, serving.num_replicas
        halted, serves = deployment.row.rollout.halted, _serves(deployment)
        if rules is not None and serves and count != rules.bounds[0] and listed:
            return f"{key} keeps {count} replicas without load"
        if _wakes(deployment) and machine.ledger.open(key):
            return f"{key} has requests, for which it will wake"
        supply, held = machine.world.supply, machine.world.allocations()
        if any(isinstance(place(supply, held, one.demand), Shortage) for one in (target, serving)):
            return ""
        wants = any(machine.children[one.row.ref].expired for one in listed)
        if wants and serves:
            return f"{key} has replicas that want to be replaced"
        if halted:  # what serves since then is kept up, if anything does
            wrong = len(listed) < count or (rules is not None and len(listed) > count and not ages)
            return f"{key} has {len(listed)} replicas of {count}" if serves and wrong else ""
        problem = deployment.row.rollout.problem
        wrong = len(listed) < count if ages else len(instances) != count or bool(problem)
        if wrong or any(one.row.version != target.version for one in listed):
            return f"{key} has {len(instances)} replicas {problem}"
        return ""

    async def _shut_down(self) -> None:
        machine = self.machine
        machine.trace("user shuts down")
        machine.acknowledged.clear()
        machine.ledger.served.clear()
        await self._ask("shutdown", Empty(), Empty, tries=1)
        await asyncio.sleep(1.0)
        if not machine.ended:
            machine.violated("the shutdown has been answered and the instance has not ended")
        if machine.children:
            machine.violated(f"processes are left: {sorted(machine.children)}")
        rows = [key for key in machine.disk.rows if key[0] in (APPLICATIONS, INSTANCES)]
        if rows:
            machine.violated(f"rows are left: {rows}")


def _ages(deployment: Deployment) -> bool:
    """Whether its replicas are replaced for ever."""
    targets = (deployment.target, deployment.row.stable)
    return any(target is not None and target.max_replica_age_s is not None for target in targets)


def _wakes(deployment: Deployment) -> bool:
    """Whether a call is enough for it to get a replica."""
    serving = deployment.serving
    if serving is None or serving.rules is None or not _serves(deployment):
        return False
    return serving.rules.bounds[1] > 0 and not serving.demand.gpus


def _serves(deployment: Deployment) -> bool:
    """Whether there is a version that has not been given up."""
    return not deployment.row.rollout.halted or deployment.row.stable is not None
