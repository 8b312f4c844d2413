"""The driver's side of node: waiting for it, ending it, and what it says when it could not start."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest
from tests.contract.engine.rig import lean_config, open_fds, rig

from eagleray.engine.base import EngineError
from eagleray.engine.local import spawn_node


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


def test_a_start_that_fails_leaves_no_descriptor(tmp_path: Path) -> None:
    too_long = tmp_path / ("x" * 120)
    before = open_fds()
    with pytest.raises(OSError, match="Failed to listen"):
        spawn_node(lean_config(runtime_dir=str(too_long), state_dir=str(tmp_path), logs_dir=str(tmp_path)))
    assert open_fds() == before
