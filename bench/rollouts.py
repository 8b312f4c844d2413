"""Updates under load: `python -m bench.rollouts [--updates N] [--failing N] [--rate R]` prints one JSON object.

An open loop asks at a constant rate while an application is updated again and again, first with versions that work,
then with versions that raise in their constructor. Latency counts from the intended time of a request. The client is
a process of its own; what it shares with the system is the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from bench import open_loop
from bench.load import Request
from eagleray import serve

REPLICAS = 2
WORK_S = 0.005
STEADY_S = 10.0
PACE_S = 0.3
"""From one update to the next."""
FAILING_PACE_S = 3.2
"""Failed starts are retried later and later until an update is given up."""


class Model:
    async def __call__(self) -> str:
        await asyncio.sleep(WORK_S)
        return "ok"


class Failing(Model):
    def __init__(self) -> None:
        raise ValueError("no weights")


def deploy(kind: type) -> None:
    options: Any = {"name": "model", "num_replicas": REPLICAS, "max_ongoing_requests": 100}
    serve.run(serve.deployment(**options)(kind).bind(), name="rollouts")


def _ask(port: int, rate: float, seconds: float) -> dict[str, float]:
    """In the client's process."""
    outcome = open_loop.run(port, Request("GET", "/"), rate, seconds)
    return {
        "sent": len(outcome.answers),
        "failed": sum(status != 200 for status, _ in outcome.answers),
        "p50_ms": round(outcome.percentile_ms(50), 2),
        "p99_ms": round(outcome.percentile_ms(99), 2),
    }


def _running() -> int:
    overview = serve.status().applications["rollouts"].deployments["model"]
    return overview.replica_states.get("RUNNING", 0)  # type: ignore[call-overload,no-any-return]


def _fail() -> None:
    try:
        deploy(Failing)
    except Exception as error:  # what it raises is the measured thing's own business
        if "no weights" not in str(error):
            raise


def _updates(
    client: ProcessPoolExecutor, port: int, rate: float, count: int, pace_s: float, update: Callable[[], None]
) -> dict[str, float]:
    """Load for `count` times `pace_s`, and an update in each of these; `updates` is how many there were under load."""
    asking = client.submit(_ask, port, rate, count * pace_s)
    begun = time.monotonic()
    done, lowest, spent = 0, REPLICAS, 0.0
    while not asking.done():
        began = time.monotonic()
        update()
        spent += time.monotonic() - began
        done += 1
        lowest = min(lowest, _running())
        time.sleep(max(0.0, begun + done * pace_s - time.monotonic()))
    return {
        **asking.result(),
        "updates": done,
        "seconds_each": round(spent / done, 3),
        "lowest_running": lowest,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--failing", type=int, default=50)
    parser.add_argument("--rate", type=float, default=500.0)
    given = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    serve.start(http_options={"port": port}, logging_config={"log_level": "WARNING"})
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client:
        deploy(Model)
        client.submit(_ask, port, given.rate, 2.0).result()
        found = {"cpus": os.cpu_count(), "rate": given.rate}
        found["steady"] = client.submit(_ask, port, given.rate, STEADY_S).result()  # type: ignore[assignment]
        found["updates"] = _updates(client, port, given.rate, given.updates, PACE_S, lambda: deploy(Model))  # type: ignore[assignment]
        found["failing"] = _updates(client, port, given.rate, given.failing, FAILING_PACE_S, _fail)  # type: ignore[assignment]
    serve.shutdown()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
