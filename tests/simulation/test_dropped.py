"""An update drops a deployment that sleeps at zero replicas: it wakes for callers of the version before."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from eagleray.base.errors import EaglerayError
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

FRONT, HELPER = "a#front", "a#helper"


class Call(RoutedCall):
    """One call of `HELPER`; `outcome` is None until it has ended."""

    def __init__(self) -> None:
        super().__init__(HELPER, CallHead(CallKind.PYTHON, request_id="call"))
        self.outcome: str | None = None

    def on_result(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.outcome = "answered"

    def on_failed(self, error: EaglerayError) -> None:
        self.outcome = str(error)


def application(version: str, *, has_helper: bool) -> bytes:
    def bound(name: str, children: list[str], **options: object) -> dict[str, object]:
        return {
            "spec": {"name": name, **options},
            "code": {"target": f"app:{name}"},
            "version": version,
            "children": children,
            "ingress": name == "front",
        }

    deployments = [bound("front", ["helper"] if has_helper else [], graceful_shutdown_timeout_s=60)]
    if has_helper:
        scaling = {"min_replicas": 0, "max_replicas": 2, "upscale_delay_s": 1, "downscale_delay_s": 5}
        deployments.append(bound("helper", [], autoscaling_config=scaling))
    spec = {"name": "a", "route_prefix": "/a", "deployments": deployments}
    return ApplicationSpec.from_json(json.dumps(spec).encode()).to_json()


async def play(seed: int, loop: VirtualLoop, crashes: bool) -> None:
    floors = Floors()
    machine = Machine(
        seed, loop, lambda machine, salt, life: WatchedWorld(machine, floors, salt, life), lambda line: None
    )
    machine.boot()
    driver = Process(machine.network, "driver")
    front = SimRouter(machine, driver, machine.controller_address)
    await front.subscription.start()
    client = await Client.connect(machine.controller_address, dial=driver.dial)
    for version, has_helper in (("deaf", True), ("v2", False)):
        deploy = Deploy(specs=[application(version, has_helper=has_helper)])
        assert not (await client.request("deploy", deploy, Accepted, timeout_s=30)).error
        await asyncio.sleep(20)
    client.close()
    assert machine.world is not None
    assert len(machine.world.instances_of(FRONT)) == 2, "the old caller drains"
    assert not machine.world.instances_of(HELPER)
    if crashes:
        await machine.crash()
        await asyncio.sleep(10)
    call = Call()
    front.router.submit(call)
    await asyncio.sleep(10)
    assert call.outcome == "answered"
    await asyncio.sleep(90)
    assert HELPER not in machine.world.deployments
    client = await Client.connect(machine.controller_address, dial=driver.dial)
    await client.request("shutdown", Empty(), Empty, timeout_s=60)
    client.close()
    await front.close()
    await machine.close()
    assert not machine.violations


@pytest.mark.parametrize("crashes", [False, True])
def test_it_wakes_for_a_caller_of_the_version_before(crashes: bool) -> None:
    loop = VirtualLoop()
    state = random.getstate()
    random.seed(1)
    try:
        loop.run_until_complete(play(1, loop, crashes))
    finally:
        random.setstate(state)
        loop.close()
