"""The replica role as a process of its own, as node's children run it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.integration.replica.replica_process import Call, Replica

from eagleray.rpc.client import Client
from eagleray.rpc.unix import calls_path
from eagleray.wire.control import Drain, Empty, Ready, ReplicaLaunch, encode

_MODULE = """
import os, time
class Model:
    def __call__(self):
        if os.path.exists("block"):
            time.sleep(60)
        return str(os.getpid())
    def __del__(self):
        with open("deleted", "a") as file:
            file.write("x")
"""
_CHILD = """
import socket, sys
from eagleray.base.process import Child
from eagleray.replica.__main__ import main
listener = socket.socket(fileno=int(sys.argv[1]))
main(Child("replica", sys.stdin.buffer.read(), listener, None, -1, -1, "/tmp", "replica.log"))
"""


async def _with_process(directory: Path, end: Callable[[Replica, int], Awaitable[None]]) -> int:
    """Starts the role, lets it answer a request, has `end` end it; returns the exit status."""
    path = str(directory / "r.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    launch = ReplicaLaunch(
        app="app",
        deployment="Model",
        replica_id="abc",
        version="1",
        target="user_module:Model",
        sys_path=[str(directory)],
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _CHILD,
        str(listener.fileno()),
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
        cwd=directory,
    )
    listener.close()
    assert process.stdin is not None
    process.stdin.write(encode(launch))
    process.stdin.close()
    control = await Client.connect(f"unix:{path}")
    try:
        ready = await control.request("ready", Empty(), Ready, timeout_s=20)
        assert ready.error == "" and ready.pid == process.pid
        address = f"unix:{calls_path(path)}"
        replica = Replica(None, control, await Client.connect(address), None, address)  # type: ignore[arg-type]
        assert (await replica.get()).body == str(process.pid).encode()
        await end(replica, process.pid)
        async with asyncio.timeout(10):
            return await process.wait()
    finally:
        control.close()
        await control.wait_closed()
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def directory() -> object:
    path = Path(tempfile.mkdtemp(prefix="er-"))
    (path / "user_module.py").write_text(_MODULE)
    yield path
    shutil.rmtree(path)


def test_it_ends_by_itself_once_drained(directory: Path) -> None:
    async def drain(replica: Replica, pid: int) -> None:
        await replica.control.request("drain", Drain(), Empty, timeout_s=10)

    assert asyncio.run(_with_process(directory, drain)) == 0
    assert (directory / "deleted").read_text() == "x"
    (line,) = (directory / "replica.log").read_text().splitlines()
    assert " app_Model abc r1 -- GET / 200 " in line


def test_sigterm_ends_it_in_order(directory: Path) -> None:
    async def terminate(replica: Replica, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)

    assert asyncio.run(_with_process(directory, terminate)) == 0
    assert (directory / "deleted").read_text() == "x"


def test_a_call_that_never_returns_does_not_keep_it_alive(directory: Path) -> None:
    async def block(replica: Replica, pid: int) -> None:
        (directory / "block").touch()
        call: Call = replica.http()
        await replica.client.ping(10)
        os.kill(pid, signal.SIGTERM)
        await call.done.wait()
        assert call.error is not None and call.error.code == "replica_died"

    asyncio.run(_with_process(directory, block))
    assert (directory / "deleted").read_text() == "x"
