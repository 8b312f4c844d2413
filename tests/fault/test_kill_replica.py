"""kill -9 of one of three replicas under load costs at most the requests that it was working on, and no GET."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from tests.fault.instance import Instance, serving
from tests.fault.ledger import Ledger
from tests.processes import wait_gone

NOTICED_WITHIN_S = 0.25
"""EOF is the death notice; a request sent later than this after the kill must not know the dead replica."""


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_only_requests_of_the_dead_replica_fail(method: str) -> None:
    with serving() as instance:
        ledger = Ledger(instance.host, instance.port, method=method)
        killed, t_killed = asyncio.run(_kill_one(instance, ledger))

        ledger.check()
        failures = ledger.failures()
        assert {line.status for line in failures} <= {502, 503}
        assert all(line.t_sent < t_killed + NOTICED_WITHIN_S for line in failures)
        assert all(line.t_answered > t_killed for line in failures)
        most = 20 if method == "POST" else 0
        assert len(failures) <= most, "as many as one replica takes, and none that could be asked again"
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
    assert not wait_gone([killed], 30.0)
    return killed, t_killed
