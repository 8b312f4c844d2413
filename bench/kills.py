"""Kills and stops the processes of an instance under an open-loop load, and says how long each was missed.

    python -m bench.kills [--replica 50] [--proxy 20] [--controller 50] [--stop 5]

Needs the repository as its working directory. Prints one line of JSON for each kind: the rounds, the failed requests by
status, how long after the kill the last request that failed was sent (`out_ms`), and when the role was back (`back_ms`,
medians and worst). It uses the same ledger as the fault tests: every request has one line, whatever becomes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import time
from collections import Counter
from typing import Any

from tests.fault.instance import Instance, serving
from tests.fault.ledger import Ledger

from eagleray.rpc.client import Client
from eagleray.wire.control import Empty, StatusReply

POLL_S = 0.005
REST_S = 10.5
"""Between kills of one role: quicker deaths are a crash loop, which is replaced later and later on purpose."""


async def _is_back(instance: Instance, role: str, ledger: Ledger, before: set[int], at: float) -> bool:
    if role == "controller":
        [runtime_dir] = instance.runtime_dirs()
        client = await Client.connect(f"unix:{runtime_dir}/controller.sock")
        try:
            await client.request("status", Empty(), StatusReply, timeout_s=30)
        finally:
            client.close()
        return True
    if role == "proxy":
        return any(not line.failed and line.t_answered > at + POLL_S for line in ledger.lines[-20:])
    return any(int(pid) not in before for pid in ledger.bodies(since=at))


async def measure(
    instance: Instance, role: str, signum: int, rounds: int, rest_s: float, method: str
) -> dict[str, Any]:
    ledger = Ledger(instance.host, instance.port, method=method)
    out_ms, back_ms = [], []
    statuses: Counter[int] = Counter()
    replicas_before = instance.pids("replica")
    async with ledger.running():
        await ledger.wait_answers(200)
        for _ in range(rounds):
            before = instance.pids("replica")
            failures = len(ledger.failures())
            victim = min(instance.pids(role))
            at = time.monotonic()
            os.kill(victim, signum)
            while not await _is_back(instance, role, ledger, before, at):  # noqa: ASYNC110  # it is seen from outside
                await asyncio.sleep(POLL_S)
            back_ms.append((time.monotonic() - at) * 1000)
            await asyncio.sleep(rest_s)
            failed = ledger.failures()[failures:]
            statuses.update(line.status for line in failed)
            out_ms.append(max((line.t_sent - at for line in failed), default=0.0) * 1000)
    ledger.check()
    return {
        "role": role,
        "method": method,
        "signal": signal.Signals(signum).name,
        "rounds": rounds,
        "requests": ledger.sent,
        "failed": dict(statuses),
        "out_ms": {"median": round(statistics.median(out_ms), 1), "worst": round(max(out_ms), 1)},
        "back_ms": {"median": round(statistics.median(back_ms), 1), "worst": round(max(back_ms), 1)},
        "replicas_restarted": len(instance.pids("replica") - replicas_before),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--replica", type=int, default=50)
    parser.add_argument("--proxy", type=int, default=20)
    parser.add_argument("--controller", type=int, default=50)
    parser.add_argument("--stop", type=int, default=5)
    options = parser.parse_args()
    kinds = [
        ("controller", signal.SIGKILL, options.controller, 1.5, "POST"),
        ("replica", signal.SIGKILL, options.replica, REST_S, "GET"),
        ("replica", signal.SIGKILL, options.replica, REST_S, "POST"),
        ("proxy", signal.SIGKILL, options.proxy, REST_S, "POST"),
        ("replica", signal.SIGSTOP, options.stop, REST_S, "POST"),
    ]
    for role, signum, rounds, rest_s, method in kinds:
        if rounds:
            with serving() as instance:
                print(
                    json.dumps(asyncio.run(measure(instance, role, signum, rounds, rest_s, method))),
                    flush=True,
                )


if __name__ == "__main__":
    main()
