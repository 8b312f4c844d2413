"""Replicas follow the load of a real instance: up, down, to zero, and back for the first call that waits."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.ports import free_port
from tests.waiting import wait_until

from eagleray import serve
from eagleray.serve.config import AutoscalingConfig
from eagleray.serve.instance import running
from eagleray.wire.control import Empty, InstanceInfo

FAST = {"look_back_period_s": 0.5, "upscale_delay_s": 0.0, "downscale_delay_s": 0.2}


@serve.deployment(max_ongoing_requests=100)
class Gate:
    """Holds calls until it is told to let them go; each replica by itself."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, request: Any = None) -> str:
        return "here"

    async def pid(self) -> int:
        return os.getpid()

    async def hold(self) -> str:
        await self.opened.wait()
        return "held"


@pytest.fixture
def instance() -> Iterator[int]:
    port = free_port()
    serve.start(http_options={"port": port})
    yield port
    serve.shutdown()


def replicas(app: str = "default") -> int:
    states = serve.status().applications[app].deployments["Gate"].replica_states
    return sum(count for state, count in states.items() if state in ("RUNNING", "STARTING"))


def controller_pid() -> int:
    here = running()
    assert here is not None
    return here.runtime.request("info", Empty(), InstanceInfo).result(timeout=30).pid


def is_steady(count: int) -> bool:
    application = serve.status().applications["default"]
    return replicas() == count and application.deployments["Gate"].status == "HEALTHY"


def test_replicas_come_with_load_and_go_with_it(instance: int) -> None:
    config = AutoscalingConfig(min_replicas=1, max_replicas=3, target_ongoing_requests=2, **FAST)
    handle = serve.run(Gate.options(autoscaling_config=config).bind(), route_prefix=None)
    assert is_steady(1)
    held = [handle.hold.remote() for _ in range(6)]
    wait_until(lambda: is_steady(3), "three replicas for six calls at two each")
    assert serve.status().applications["default"].status == "RUNNING"
    assert serve.status().applications["default"].deployments["Gate"].status_trigger == "UPSCALE_COMPLETED"
    for response in held:
        response.cancel()
    wait_until(lambda: is_steady(1), "one replica without load")
    assert handle.remote().result(timeout_s=30) == "here"


def test_first_call_wakes_a_deployment_from_zero(instance: int) -> None:
    config = {"min_replicas": 0, "max_replicas": 2, **FAST}
    handle = serve.run(Gate.options(autoscaling_config=config).bind(), route_prefix="/")
    assert is_steady(0)
    assert serve.status().applications["default"].status == "RUNNING"
    assert handle.remote().result(timeout_s=30) == "here"
    wait_until(lambda: is_steady(0), "no replica without load")
    with urllib.request.urlopen(f"http://127.0.0.1:{instance}/", timeout=30) as answer:
        assert answer.read() == b"here"


def test_count_outlives_the_controller(instance: int) -> None:
    config = AutoscalingConfig(min_replicas=1, max_replicas=3, target_ongoing_requests=2, **FAST)
    handle = serve.run(Gate.options(autoscaling_config=config).bind(), route_prefix=None)
    held = [handle.hold.remote() for _ in range(6)]
    wait_until(lambda: is_steady(3), "three replicas for six calls at two each")
    pids = {handle.pid.remote().result(timeout_s=30) for _ in range(60)}
    before = controller_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: controller_pid() != before, "another controller")
    wait_until(lambda: is_steady(3), "the same three replicas")
    assert {handle.pid.remote().result(timeout_s=30) for _ in range(60)} & pids
    for response in held:
        response.cancel()
    wait_until(lambda: is_steady(1), "one replica without load")


def test_auto_means_bounds_of_one_and_a_hundred(instance: int) -> None:
    deployment = Gate.options(num_replicas="auto", autoscaling_config=FAST)
    handle = serve.run(deployment.bind(), route_prefix=None)
    held = [handle.hold.remote() for _ in range(4)]
    wait_until(lambda: is_steady(2), "two replicas for four calls")
    for response in held:
        response.cancel()
