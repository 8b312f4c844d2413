"""The driver's side of node: waiting for it, ending it, and what it says when it could not start."""

from __future__ import annotations

import asyncio
import os
import signal
import stat

import pytest
from tests.contract.engine.rig import rig

from eagleray.engine.base import EngineError


def test_directories_and_sockets_are_private(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(monkeypatch) as it:
        config = it.node.config
        for path in (config.runtime_dir, config.state_dir, config.logs_dir):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(f"{it.dir}/controller.sock").st_mode) == 0o600


def test_controller_takes_connects_before_node_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(monkeypatch) as it:
        os.close(it.take_channel())  # dialled the moment after the spawn
        asyncio.run(it.node.wait_ready())


def test_wait_may_be_cancelled_and_close_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(monkeypatch) as it:

        async def run() -> None:
            waiting = asyncio.create_task(it.node.wait(), name="wait")
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        asyncio.run(run())
        it.node.close()
        it.node.close()
        assert asyncio.run(it.node.wait()) == 0


def test_death_of_node_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(monkeypatch) as it:
        os.kill(it.node.pid, signal.SIGKILL)
        assert asyncio.run(it.node.wait()) == -signal.SIGKILL
        with pytest.raises(EngineError, match="node has ended with status -9"):
            asyncio.run(it.node.wait_ready())
        it.node.terminate()
