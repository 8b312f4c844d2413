"""A real node under test, whose controller is the test itself, and children that obey (`roles`)."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.processes import descendants, still_alive, wait_gone

from eagleray.engine.linux import open_fds
from eagleray.engine.local import LocalEngine, NodeProcess, node_config, spawn_node
from eagleray.wire.control import NodeConfig, StartChild

ROOT = Path(__file__).parents[3]
ROLES, PUPPET = "tests.contract.engine.roles", "tests.contract.engine.puppet"


class Rig:
    """A node by its directories; `attach` makes the engine."""

    def __init__(self, runtime_dir: str, logs_dir: str) -> None:
        self.dir = runtime_dir
        self.logs_dir = logs_dir
        self.controller_pid = 0
        self._puppet: socket.socket | None = None

    def take_channel(self) -> int:
        """Becomes the controller that node has started last: returns the descriptor of its channel."""
        puppet = socket.socket(socket.AF_UNIX)
        puppet.connect(f"{self.dir}/controller.sock")
        pid, [fd], _, _ = socket.recv_fds(puppet, 16, 1)
        self.controller_pid = int(pid)
        self.let_go()
        self._puppet = puppet
        return fd

    def let_go(self) -> None:
        """The puppet dies, as far as it still lives."""
        if self._puppet is not None:
            self._puppet.close()
            self._puppet = None

    @asynccontextmanager
    async def attach(self) -> AsyncIterator[LocalEngine]:
        engine = await LocalEngine.attach(self.take_channel(), NodeConfig())
        try:
            yield engine
        finally:
            await engine.close()

    def request(self, ref: str, **fields: Any) -> StartChild:
        fields.setdefault("listen", f"{self.dir}/{ref}.sock")
        return StartChild(ref=ref, module=fields.pop("module", ROLES), **fields)

    def ask(self, ref: str, *command: Any) -> Any:
        """One command to a child of `roles`, and its answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(f"{self.dir}/{ref}.sock")
            with sock.makefile("rw") as stream:
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                return json.loads(stream.readline() or "null")

    def log(self, ref: str) -> str:
        return Path(self.logs_dir, f"{ref}.log").read_text()


class OwnRig(Rig):
    """A rig whose driver is the test itself."""

    def __init__(self, node: NodeProcess) -> None:
        super().__init__(node.runtime_dir, node.logs_dir)
        self.node = node


@contextmanager
def rig(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[OwnRig]:
    """A node for one test. Afterwards nothing of it is left: no process, no socket, no descriptor."""
    home = tempfile.mkdtemp(prefix="er-")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}/src:{ROOT}")
    monkeypatch.setenv("EAGLERAY_RUNTIME_HOME", f"{home}/run")
    monkeypatch.setenv("EAGLERAY_STATE_HOME", f"{home}/state")
    gc.collect()  # what gRPC has left of an earlier test's channels is not ours
    before = open_fds()
    node = spawn_node(lean_config(**options))
    the_rig = OwnRig(node)
    pids = {node.pid}
    try:
        yield the_rig
        pids |= descendants(node.pid)
    finally:
        the_rig.let_go()
        node.close()
        left = wait_gone(pids, 30.0)
        runtime_dir_left = os.path.exists(node.runtime_dir)
        shutil.rmtree(home, ignore_errors=True)
    assert not still_alive(left)
    assert not runtime_dir_left
    assert open_fds() == before


def lean_config(**options: Any) -> NodeConfig:
    options.setdefault("controller_module", PUPPET)
    options.setdefault("http_port", 0)
    return node_config(**options)


async def next_exit(engine: LocalEngine, timeout_s: float = 10.0) -> tuple[str, int]:
    """(ref, status) of the next child that ends."""
    exits = engine.exits()
    try:
        exited = await asyncio.wait_for(anext(exits), timeout_s)
    finally:
        await exits.aclose()  # type: ignore[attr-defined]
    return exited.ref, exited.status
