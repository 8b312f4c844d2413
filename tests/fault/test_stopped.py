"""SIGSTOP under load: what is stopped gets no requests, is killed and replaced; what goes on in time is kept."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

from tests.fault.instance import Instance, serving
from tests.fault.ledger import Ledger
from tests.processes import wait_gone
from tests.waiting import wait_until

UNLISTED_WITHIN_S = 1.0
"""What is promised: a request that is sent later never goes to the stopped replica."""


def test_a_stopped_replica_is_replaced_and_one_that_goes_on_is_kept() -> None:
    with serving() as instance:
        ledger = Ledger(instance.host, instance.port)
        stopped, t_stopped, kept = asyncio.run(_stop_replicas(instance, ledger))

        ledger.check()
        failures = ledger.failures()
        assert {line.status for line in failures} <= {502, 503}
        assert all(line.t_sent < t_stopped + UNLISTED_WITHIN_S for line in failures)
        assert kept in instance.pids("replica")
        assert stopped not in instance.pids("replica")


async def _stop_replicas(instance: Instance, ledger: Ledger) -> tuple[int, float, int]:
    async with ledger.running():
        await ledger.wait_answers(100)
        kept, stopped, _ = sorted(instance.pids("replica"))
        os.kill(kept, signal.SIGSTOP)
        await ledger.wait_answers(60)
        os.kill(kept, signal.SIGCONT)
        await _until_answered_by(ledger, lambda pid: pid == kept)
        before = instance.pids("replica")
        t_stopped = time.monotonic()
        os.kill(stopped, signal.SIGSTOP)
        assert not await asyncio.to_thread(wait_gone, [stopped], 30.0)
        await _until_answered_by(ledger, lambda pid: pid not in before)
    return stopped, t_stopped, kept


async def _until_answered_by(ledger: Ledger, wanted: Callable[[int], bool]) -> None:
    since = time.monotonic()
    async with asyncio.timeout(30):
        while not any(wanted(int(pid)) for pid in ledger.bodies(since=since)):
            await ledger.wait_answers(10)


def test_a_stopped_proxy_and_a_stopped_controller_are_replaced() -> None:
    with serving() as instance:
        ledger = Ledger(instance.host, instance.port, rate_per_s=20.0)
        asyncio.run(_stop_proxy_and_controller(instance, ledger))

        ledger.check()
        assert not [line for line in ledger.failures() if line.status > 0], (
            "connections end, answers do not fail"
        )


async def _stop_proxy_and_controller(instance: Instance, ledger: Ledger) -> None:
    replicas = instance.pids("replica")
    async with ledger.running():
        await ledger.wait_answers(20)
        for role in ("controller", "proxy"):
            stopped = instance.pid(role)
            os.kill(stopped, signal.SIGSTOP)
            assert not await asyncio.to_thread(wait_gone, [stopped], 30.0)
            await asyncio.to_thread(
                wait_until, lambda role=role: len(instance.pids(role)) == 1, f"another {role}", 30.0
            )
            await ledger.wait_answers(40)
        await _until_answered_by(ledger, lambda pid: pid in replicas)
    assert instance.pids("replica") == replicas
