"""kill -9 of one of three replicas under load costs at most the requests that it was working on."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tests.fault.instance import Instance, serving
from tests.fault.ledger import Ledger
from tests.processes import wait_gone

NOTICED_WITHIN_S = 0.25
"""EOF is the death notice; a request sent later than this after the kill must not know the dead replica."""


def test_only_requests_of_the_dead_replica_fail() -> None:
    with serving() as instance:
        ledger = Ledger(instance.host, instance.port)
        killed, t_killed = asyncio.run(_kill_one(instance, ledger))

        ledger.check()
        failures = ledger.failures()
        assert {line.status for line in failures} <= {502, 503}
        assert all(line.t_sent < t_killed + NOTICED_WITHIN_S for line in failures)
        assert all(line.t_answered > t_killed for line in failures)
        assert len(failures) <= 20, "more than max_ongoing_requests of one replica"
        after = ledger.bodies(since=t_killed + NOTICED_WITHIN_S)
        assert str(killed) not in after
        assert len(instance.pids("replica")) == 3, "a new one has taken its place"


async def _kill_one(instance: Instance, ledger: Ledger) -> tuple[int, float]:
    async with ledger.running():
        await ledger.wait_answers(200)
        before = instance.pids("replica")
        assert set(ledger.bodies()) == {str(pid) for pid in before} and len(before) == 3
        killed = min(before)
        t_killed = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(20):
            while len(set(ledger.bodies(since=t_killed)) - {str(pid) for pid in before}) == 0:
                await ledger.wait_answers(20)
        await ledger.wait_answers(100)
    assert not wait_gone([killed], 1.0)
    return killed, t_killed
