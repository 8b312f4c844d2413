"""How long the first request takes that finds no replica: `python -m bench.wake [--times 20]`.

The deployment's constructor does nothing, so this is all that Eagleray adds to it. Half of the requests come by HTTP,
half by a handle.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
import urllib.request
from typing import Any

from eagleray import serve

CONFIG = {
    "min_replicas": 0,
    "max_replicas": 1,
    "look_back_period_s": 0.5,
    "upscale_delay_s": 30.0,
    "downscale_delay_s": 0.1,
}


@serve.deployment(autoscaling_config=CONFIG)
class Greeter:
    async def __call__(self, request: Any = None) -> str:
        return "hello"


def wait_for_none() -> None:
    deadline = time.monotonic() + 60
    while serve.status().applications["default"].deployments["Greeter"].replica_states:
        if time.monotonic() > deadline:
            raise SystemExit(f"the last replica did not go within 60 s: {serve.status()}")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"port": port})
    handle = serve.run(Greeter.bind())
    took: dict[str, list[float]] = {"http": [], "handle": []}
    for number in range(times):
        wait_for_none()
        began = time.monotonic()
        if number % 2:
            handle.remote().result(timeout_s=30)
        else:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read()
        took["handle" if number % 2 else "http"].append(round((time.monotonic() - began) * 1000, 1))
    serve.shutdown()
    print(
        json.dumps(
            {name: {"p50_ms": sorted(ms)[len(ms) // 2], "max_ms": max(ms)} for name, ms in took.items()}
        )
    )


if __name__ == "__main__":
    main()
