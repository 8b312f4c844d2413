"""kill -9 of the driver under load: 2 s later there is no process, socket or port of ours."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from tests.fault.instance import Instance, serving
from tests.fault.ledger import Ledger
from tests.processes import wait_gone

GONE_WITHIN_S = 30.0


def test_nothing_is_left() -> None:
    with serving() as instance:
        everything = instance.everything()
        assert len(everything) >= 7  # driver, node, controller, proxy, three replicas
        ledger = Ledger(instance.host, instance.port)
        asyncio.run(_kill(instance, ledger, everything))
        ledger.check()
        assert instance.runtime_dirs() == []
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(asyncio.open_connection(instance.host, instance.port))


async def _kill(instance: Instance, ledger: Ledger, everything: set[int]) -> None:
    async with ledger.running():
        await ledger.wait_answers(100)
        os.kill(instance.driver.pid, signal.SIGKILL)
        left = await asyncio.to_thread(wait_gone, everything, GONE_WITHIN_S)
    assert not left
