"""Autoscaling on virtual time: a constant load does not make it oscillate, and it comes down again."""

from __future__ import annotations

import asyncio
import json
import math
import random

import pytest

from eagleray.reconcile import events as e
from eagleray.routing.call import RoutedCall
from eagleray.rpc.client import Client
from eagleray.spec.application import ApplicationSpec
from eagleray.testing.simulation.children import SimRouter
from eagleray.testing.simulation.loop import VirtualLoop
from eagleray.testing.simulation.machine import Machine
from eagleray.testing.simulation.network import Process
from eagleray.testing.simulation.watch import Floors, WatchedWorld
from eagleray.wire.control import Accepted, Deploy, Empty
from eagleray.wire.messages import CallHead, CallKind, ReplyHead

KEY = "a#front"


class Watched(WatchedWorld):
    """Counts the decisions of the autoscaler."""

    decisions = 0

    def apply(self, event: e.Event, now: float) -> set[str]:
        if isinstance(event, e.Autoscaled):
            self.decisions += 1
        return super().apply(event, now)


class User(RoutedCall):
    """Sends its next request as soon as the last one is answered, until it is `done`."""

    done = False

    def __init__(self, front: SimRouter, name: str) -> None:
        super().__init__(KEY, CallHead(CallKind.PYTHON, request_id=name))
        self.front = front

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        if not User.done:
            self.front.router.submit(User(self.front, f"{self.head.request_id}+"))


def application(**scaling: float) -> bytes:
    deployment = {
        "spec": {"name": "front", "max_ongoing_requests": 10, "autoscaling_config": scaling},
        "code": {"target": "app:front"},
        "version": "v1",
        "children": [],
        "ingress": True,
    }
    spec = {"name": "a", "route_prefix": "/a", "deployments": [deployment]}
    return ApplicationSpec.from_json(json.dumps(spec).encode()).to_json()


async def play(seed: int, loop: VirtualLoop, users: int) -> None:
    floors = Floors()
    machine = Machine(
        seed, loop, lambda machine, salt, life: Watched(machine, floors, salt, life), lambda line: None
    )
    machine.boot()
    driver = Process(machine.network, "driver")
    front = SimRouter(machine, driver, machine.controller_address)
    await front.subscription.start()
    client = await Client.connect(machine.controller_address, dial=driver.dial)
    text = application(
        min_replicas=0, max_replicas=8, target_ongoing_requests=2, upscale_delay_s=2, downscale_delay_s=10
    )
    assert not (await client.request("deploy", Deploy(specs=[text]), Accepted, timeout_s=30)).error

    def count() -> int:
        assert machine.world is not None
        return sum(one.is_listed for one in machine.world.instances_of(KEY))

    def decisions() -> int:
        assert isinstance(machine.world, Watched)
        return machine.world.decisions

    await asyncio.sleep(30)
    assert count() == 0, "nobody asks"
    User.done = False
    for number in range(users):
        front.router.submit(User(front, f"user{number}"))
    await asyncio.sleep(60)
    wanted = math.ceil(users / 2)
    assert abs(count() - wanted) <= 1
    before = decisions()
    await asyncio.sleep(120)
    assert decisions() - before <= 2, "it oscillates"
    assert abs(count() - wanted) <= 1
    User.done = True
    await asyncio.sleep(120)
    assert count() == 0
    await client.request("shutdown", Empty(), Empty, timeout_s=60)
    client.close()
    await front.close()
    await machine.close()
    assert not machine.violations


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("users", [1, 7])
def test_constant_load_does_not_oscillate(seed: int, users: int) -> None:
    loop = VirtualLoop()
    state = random.getstate()
    random.seed(seed)
    try:
        loop.run_until_complete(play(seed, loop, users))
    finally:
        random.setstate(state)
        loop.close()
