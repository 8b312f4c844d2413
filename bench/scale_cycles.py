"""Scales one deployment from 1 replica to 10 and back by its load, many times; what the controller keeps of it.

    python -m bench.scale_cycles [--cycles 200]

Prints resident memory and open descriptors of the controller and of node, after a tenth of the cycles and at the end,
and how long a cycle takes. Nothing may grow with the number of cycles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from typing import Any

import psutil

from eagleray import serve
from eagleray.serve import instance
from eagleray.wire.control import Empty, InstanceInfo

REPLICAS = 10
CONFIG = {
    "min_replicas": 1,
    "max_replicas": REPLICAS,
    "target_ongoing_requests": 2,
    "look_back_period_s": 0.25,
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 0.0,
}


@serve.deployment(max_ongoing_requests=100, autoscaling_config=CONFIG, ray_actor_options={"num_cpus": 0})
class Held:
    async def __call__(self) -> None:
        await asyncio.Event().wait()


def replicas() -> int:
    states = serve.status().applications["default"].deployments["Held"].replica_states
    return sum(states.values()) if set(states) <= {"RUNNING"} else -1


def wait_for(count: int) -> None:
    deadline = time.monotonic() + 120
    while replicas() != count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{count} replicas were not reached within 120 s: {serve.status()}")
        time.sleep(0.02)


def measure(node: psutil.Process) -> dict[str, Any]:
    found = {}
    for name, process in (("node", node), ("controller", controller())):
        found[name] = {
            "rss_mb": round(process.memory_info().rss / 2**20, 2),
            "descriptors": process.num_fds(),
        }
    found["shm"] = len(os.listdir("/dev/shm"))
    return found


def controller() -> psutil.Process:
    here = instance.running()
    assert here is not None
    info = here.runtime.request("info", Empty(), InstanceInfo).result(timeout=30)
    return psutil.Process(info.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=200)
    cycles = parser.parse_args().cycles
    serve.start(http_options={"host": None})
    handle = serve.run(Held.bind(), route_prefix=None)
    (node,) = psutil.Process().children()
    first, took = None, []
    for cycle in range(cycles):
        began = time.monotonic()
        held = [handle.remote() for _ in range(2 * REPLICAS)]
        wait_for(REPLICAS)
        for response in held:
            response.cancel()
        wait_for(1)
        took.append(time.monotonic() - began)
        if cycle + 1 == max(cycles // 10, 1):
            first = measure(node)
    took.sort()
    last = measure(node)
    serve.shutdown()
    print(
        json.dumps(
            {"cycles": cycles, "cycle_s_p50": round(took[len(took) // 2], 2), "first": first, "last": last}
        )
    )


if __name__ == "__main__":
    main()
