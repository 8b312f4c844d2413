"""kill -9 of the controller under load: no request fails, no replica is restarted, and it is back within a second."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.fault.instance import Instance, serving
from tests.fault.ledger import Ledger

from eagleray.rpc.client import Client
from eagleray.wire.control import Empty, StatusReply

BACK_WITHIN_S = 1.0


def test_controller_comes_back_unnoticed() -> None:
    with serving() as instance:
        ledger = Ledger(instance.host, instance.port)
        before = {role: instance.pids(role) for role in ("replica", "proxy", "node")}
        asyncio.run(_kill_thrice(instance, ledger))

        ledger.check()
        assert ledger.failures() == []
        assert {role: instance.pids(role) for role in before} == before
        assert set(ledger.bodies()) == {str(pid) for pid in before["replica"]}


async def _kill_thrice(instance: Instance, ledger: Ledger) -> None:
    [runtime_dir] = instance.runtime_dirs()
    async with ledger.running():
        await ledger.wait_answers(100)
        for _ in range(3):
            killed = instance.pid("controller")
            os.kill(killed, signal.SIGKILL)
            async with asyncio.timeout(BACK_WITHIN_S):
                client = await Client.connect(f"unix:{runtime_dir}/controller.sock")
                reply = await client.request("status", Empty(), StatusReply, timeout_s=BACK_WITHIN_S)
            client.close()
            assert b'"RUNNING"' in reply.status
            assert instance.pid("controller") != killed
            await ledger.wait_answers(200)
